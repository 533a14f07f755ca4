"""`python -m sourcebook_api` is `sourcebook`."""

from sourcebook_api.cli import main

main()
