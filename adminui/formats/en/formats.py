"""Dates and times as all pages write them, in UTC: one reading of 3/4, and seconds, since requests take them."""

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "j M Y, H:i:s"
