"""All settings, read from the environment (see docs/configuration.md)."""

import importlib.util
import os
import warnings
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from adminui.unfold import UNFOLD  # noqa: F401 - a setting
from ccm_site.env import (
    database,
    env_basis_points,
    env_bool,
    env_int,
    env_list,
    env_secret,
    env_str,
    env_usd,
    limits,
    load_env_file,
    mail,
    search_engine,
    social_log_ins,
    stripe,
    top_up_terms,
)

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env_str("CCM_DATA_DIR") or BASE_DIR / "var").resolve()
load_env_file(DATA_DIR / "env")

DEBUG = env_bool("DEBUG", default=False)
# The demo: a seeded installation on one machine, without TLS in front of it.
DEMO = env_bool("CCM_DEMO", default=False)

SECRET_KEY = env_secret("DJANGO_SECRET_KEY")
ENCRYPTION_KEYS = [key.strip() for key in env_secret("CCM_ENCRYPTION_KEYS").split(",") if key.strip()]
KEY_PEPPER = env_secret("CCM_KEY_PEPPER")

HOST = env_str("HOST", "127.0.0.1")
PORT = env_int("PORT", 8000, minimum=1, maximum=65535)
PUBLIC_URL = env_str("CCM_PUBLIC_URL", f"http://{HOST}:{PORT}").rstrip("/")
if not PUBLIC_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured("CCM_PUBLIC_URL must begin with http:// or https://.")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "*" if DEMO else "") or [
    PUBLIC_URL.split("//")[1].split("/")[0].split(":")[0]
]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
# Addresses that customers give are never private ones; only the settings of tests say otherwise.
ALLOW_PRIVATE_MEDIA = False
ALLOW_PRIVATE_UPSTREAMS = env_bool("CCM_ALLOW_PRIVATE_UPSTREAMS", default=DEMO)

SOCIAL_APPS, SOCIALACCOUNT_PROVIDERS = social_log_ins(
    {
        name: (env_str(f"{name.upper()}_CLIENT_ID"), env_secret(f"{name.upper()}_CLIENT_SECRET", ""))
        for name in ("github", "google")
    }
)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin.apps.SimpleAdminConfig",  # its pages are loaded with the URLs: `/v1` needs none of them
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "adminui",  # before allauth, whose pages are shown with our templates
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    *SOCIAL_APPS,
    "accounts",
    "credits",
    "providers",
    "gateway",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "adminui.middleware.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "ccm_site.urls"
ASGI_APPLICATION = "ccm_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "adminui.navigation.context",
            ]
        },
    }
]

DATABASES = {"default": database(env_secret("DATABASE_URL", ""), DATA_DIR / "ccm.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env_str("REDIS_URL", "redis://127.0.0.1:6379/0")
# Counts failed sign-ins for all web processes together; it may be away without a page failing.
CACHES = {"default": {"BACKEND": "ccm_site.cache.ForgivingRedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"}}

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ACCOUNT_ADAPTER = "adminui.signing_up.Adapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_LOGOUT_REDIRECT_URL = "home"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = PUBLIC_URL.split(":", 1)[0]
ACCOUNT_RATE_LIMITS = {"login": "60/m/ip", "login_failed": "20/m/ip,8/5m/key", "signup": "20/h/ip"}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "CCM"
MFA_ADAPTER = "adminui.signing_up.MfaAdapter"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEMO
USERSESSIONS_TRACK_ACTIVITY = False
SOCIALACCOUNT_ONLY = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
# Whether strangers may sign up, and what a new customer is given once their address is verified.
SIGN_UP = env_bool("CCM_SIGN_UP", default=True)
WELCOME_NANOS = env_usd("CCM_WELCOME_CREDITS_USD", "0")

SECURE_TLS = PUBLIC_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE_TLS else None
SECURE_SSL_REDIRECT = SECURE_TLS
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_TLS
SECURE_HSTS_PRELOAD = SECURE_TLS
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = SECURE_TLS
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = SECURE_TLS
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "adminui.formats"

# The operators' API. By name, so that nothing of it is loaded before its first request.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "adminui.operators.auth.TokenAuthentication",
        "adminui.operators.auth.OperatorSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["adminui.operators.auth.OperatorPermissions"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "adminui.operators.base.Pages",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "600/min"},
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "adminui.operators.errors.handle",
}

STATIC_URL = "/static/"
# The API's documentation page. Not as an app: its import costs every process that only serves `/v1`.
NINJA = importlib.util.find_spec("ninja")
STATICFILES_DIRS = [("ninja", str(Path(NINJA.origin).parent / "static" / "ninja"))] if NINJA and NINJA.origin else []
STATIC_ROOT = env_str("CCM_STATIC_ROOT") or None
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
# Static files are small and few: that Django reads them whole is not worth a warning in the log.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
WHITENOISE_AUTOREFRESH = DEBUG

# Alerts (a failed reconciliation) go to these addresses.
ADMINS = [(address, address) for address in env_list("CCM_ALERT_EMAILS")]
MAIL = mail(env_secret("EMAIL_URL", ""), demo=DEMO)
EMAIL_BACKEND = MAIL.backend
EMAIL_HOST, EMAIL_PORT = MAIL.host, MAIL.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL.user, MAIL.password
EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL.starttls, MAIL.tls
EMAIL_TIMEOUT = 10
SERVER_EMAIL = DEFAULT_FROM_EMAIL = env_str("CCM_MAIL_FROM", "ccm@localhost")
EMAIL_SUBJECT_PREFIX = "[CCM] "

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 300
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Without the throttle a task of a crashed worker is redelivered only after minutes
# (architecture, decision 10).
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600, "unacked_restore_throttle": 1}

# tiktoken loads its vocabularies from here instead of the network.
os.environ["TIKTOKEN_CACHE_DIR"] = str(BASE_DIR / "providers" / "vocab")

# A hold whose process died is settled once its lease has run out.
HOLD_LEASE_SECONDS = env_int("CCM_HOLD_LEASE_SECONDS", 60, minimum=2, maximum=3600)
# Usage records of months that ended longer ago are archived and deleted; 0 keeps them for ever.
USAGE_RETENTION_DAYS = env_int("CCM_USAGE_RETENTION_DAYS", 400, maximum=36_500)
# How long prompts and answers are kept, for organisations that switched prompt logging on.
TEXT_RETENTION_DAYS = env_int("CCM_TEXT_RETENTION_DAYS", 7, minimum=1, maximum=90)
# What a closed organisation tells of people is kept so long, and then deleted.
CLOSED_RETENTION_DAYS = env_int("CCM_CLOSED_RETENTION_DAYS", 30, maximum=3650)
CALIBRATION_SECONDS = env_int("CCM_CALIBRATION_SECONDS", 60, minimum=1, maximum=3600)
JOURNAL_DIR = DATA_DIR / "journal"
# How long promotional credits last that were granted without a date; 0: for ever.
PROMO_EXPIRY_DAYS = env_int("CCM_PROMO_EXPIRY_DAYS", 30, minimum=0, maximum=3650)
# What one operator alone may grant an organisation in a day; more is an adjustment, which somebody else approves.
GRANT_LIMIT_NANOS = env_usd("CCM_GRANT_LIMIT_USD", "100")
# R10 of `manage.py reconcile` tells of requests that lost more than this.
# What an organisation pays for the use of its own provider keys: a share of the model's price.
BYOK_FEE_BASIS_POINTS = env_basis_points("CCM_BYOK_FEE_PERCENT", "5")
# Web processes that share the limits of providers' credentials.
WORKERS = env_int("WORKERS", 1, minimum=1, maximum=256)
UNDER_COST_NANOS = env_usd("CCM_UNDER_COST_USD", "0")
# What an organisation and an API key may ask for that have no limits of their own; 0: no limit.
ORGANIZATION_LIMITS = limits("CCM_LIMIT_ORG")
KEY_LIMITS = limits("CCM_LIMIT_KEY")
# What one web process takes on before it refuses the tenants that have most under way.
MAX_ACTIVE_REQUESTS = env_int("CCM_MAX_ACTIVE_REQUESTS", 1000, minimum=1)
MAX_WRITER_DEPTH = env_int("CCM_MAX_WRITER_DEPTH", 5000, minimum=1)
METRICS_TOKEN = env_secret("CCM_METRICS_TOKEN", "")
SEARCH_BACKEND, SEARCH_URL, SEARCH_KEY = search_engine(
    env_str("CCM_SEARCH_BACKEND"), env_str("CCM_SEARCH_URL"), env_secret("CCM_SEARCH_KEY", "")
)

STRIPE = stripe(demo=DEMO)
TOP_UP_TERMS = top_up_terms()

LOG_LEVEL = env_str("LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
    raise ImproperlyConfigured("LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR.")
LOGGING_CONFIG = "ccm_site.logs.configure"
LOGGING = {"level": LOG_LEVEL}  # Django calls the function above only with a setting that is not empty
