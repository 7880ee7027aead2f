#!/usr/bin/env python
import os
import sys

from django.core.exceptions import ImproperlyConfigured


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    # Commands say in words what they do; their log is for when something is wrong.
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"ccm: {error}")


if __name__ == "__main__":
    main()
