from django.db import migrations, models


def members_become_developers(apps, schema_editor):
    apps.get_model("accounts", "Membership").objects.filter(role="member").update(role="developer")


def developers_become_members(apps, schema_editor):
    apps.get_model("accounts", "Membership").objects.exclude(role__in=["owner", "admin"]).update(role="member")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RemoveConstraint("membership", "accounts_membership_role"),
        migrations.RunPython(members_become_developers, developers_become_members),
        migrations.AlterField(
            "membership",
            "role",
            models.CharField(
                choices=[
                    ("owner", "Owner"), ("admin", "Admin"), ("developer", "Developer"), ("billing", "Billing"),
                ],
                default="developer",
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            "membership",
            models.CheckConstraint(
                condition=models.Q(role__in=["owner", "admin", "developer", "billing"]),
                name="accounts_membership_role",
            ),
        ),
    ]
