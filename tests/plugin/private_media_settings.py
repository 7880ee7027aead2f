"""The product's settings for tests whose customers' addresses lead to this machine; only tests may say so."""

from ccm_site.settings import *  # noqa: F403

ALLOW_PRIVATE_MEDIA = True
