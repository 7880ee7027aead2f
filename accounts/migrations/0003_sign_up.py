import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


def known_addresses_are_verified(apps, schema_editor):
    """Whoever has an account before there was a sign-up got it from an operator."""
    address = apps.get_model("account", "EmailAddress")
    users = apps.get_model("accounts", "User").objects.exclude(emailaddress__isnull=False)
    address.objects.bulk_create(
        [address(user=user, email=user.email.lower(), verified=True, primary=True) for user in users],
        ignore_conflicts=True,
    )


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_roles"), ("account", "0009_emailaddress_unique_primary_email")]

    operations = [
        migrations.CreateModel(
            name="WelcomeGift",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("mailbox", models.CharField(max_length=64, unique=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "user",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="welcome_gift",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.RunPython(known_addresses_are_verified, migrations.RunPython.noop),
    ]
