"""`python -m ccm_site.demo_stripe`, which `make run` starts where no STRIPE_SECRET_KEY is set."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from ccm_site.demo_stripe.server import Stripe, make_server
from ccm_site.demo_stripe.store import Store
from ccm_site.demo_stripe.webhooks import Teller


def main() -> None:
    settings = os.environ
    if settings.get("CCM_DEMO") != "1" or settings.get("STRIPE_SECRET_KEY"):
        sys.exit("ccm: the stand-in for Stripe is for the demo only.")
    store = Store(Path(settings["CCM_DATA_DIR"]) / "demo-stripe.json")
    store.tell = Teller(settings["DEMO_STRIPE_WEBHOOK"], settings["DEMO_STRIPE_SECRET"]).tell
    url = settings["DEMO_STRIPE_URL"]
    stripe = Stripe(store, settings["DEMO_STRIPE_KEY"], origin=url)
    server = make_server(stripe, settings.get("HOST") or "127.0.0.1", urlsplit(url).port or 0)
    server.serve_forever()


if __name__ == "__main__":
    main()
