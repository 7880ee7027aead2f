// Stacked bars of charges over time: `data-chart` holds times (seconds since 1970), names and US dollars as text.
for (const element of document.querySelectorAll("[data-chart]")) draw(element);

function draw(element) {
  const { times, hourly, series } = JSON.parse(element.dataset.chart);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const values = series.map((each) => each.values.map(Number));
  // Each layer is drawn from zero to the sum of those below it and itself, the highest first.
  const sums = [];
  values.forEach((layer, index) => sums.push(layer.map((value, at) => value + (index ? sums[index - 1][at] : 0))));
  const order = series.map((_, index) => index).reverse();
  const bars = uPlot.paths.bars({ size: [0.7, 48] });
  const when = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", {
    timeZone: "UTC", day: "numeric", month: "short", ...(hourly ? { hour: "2-digit", minute: "2-digit" } : {}),
  });
  const dollars = (value) => "$" + value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 6 : 2 });
  const tick = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", {
    timeZone: "UTC", ...(hourly ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" }),
  });
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const options = {
    width: element.clientWidth,
    height: 260,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: true, range: (_, from, to) => { const pad = hourly ? 1800 : 43200; return [from - pad, to + pad]; } }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [{ ...axis, space: 64, values: (_, ticks) => ticks.map(tick) }, { ...axis, size: 72, values: (_, ticks) => ticks.map(dollars) }],
    series: [
      { label: "Time", value: (_, seconds) => (seconds === null ? "–" : when(seconds)) },
      ...order.map((index) => ({
        label: series[index].name,
        fill: colour(`--chart-${(index % 6) + 1}`),
        stroke: colour("--raised"),
        width: 1,
        paths: bars,
        points: { show: false },
        value: (_, __, ___, at) => (at === null || at === undefined ? "–" : dollars(values[index][at])),
      })),
    ],
  };
  const plot = new uPlot(options, [times, ...order.map((index) => sums[index].map((sum) => sum || null))], element);
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 260 })).observe(element);
}
