"""Numbers of the kernel's user API: enums, flags, helper ids. No behaviour here."""
