"""``python -m kamc``."""

from kamc.cli import main

raise SystemExit(main())
