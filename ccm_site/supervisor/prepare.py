"""Brings the database up to date and, in the demo, seeds it: what must be done before the
first process of the product starts. A process of its own, so that the supervisor stays small."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    import django
    from django.db import DatabaseError

    try:
        django.setup()
        prepare()
    except ImproperlyConfigured as error:
        sys.exit(f"ccm: {error}")
    except DatabaseError as error:
        sys.exit(f"ccm: the database cannot be used: {str(error).strip()}")


def prepare() -> None:
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    if settings.DEMO:
        from ccm_site.demo import seed

        for line in seed(settings.DATA_DIR, os.environ):
            print(line)


if __name__ == "__main__":
    main()
