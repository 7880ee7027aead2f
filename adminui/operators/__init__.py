"""The operators' API at /admin/api/ (Django REST framework): what the admin's pages do, for programs.

Nothing here is imported before somebody asks for it: `entry.py`, which is, knows no more than where it stands."""
