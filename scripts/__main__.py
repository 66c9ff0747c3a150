"""`python -m scripts COMMAND`: pretraining, evidence and documents. `python -m scripts --help` lists the commands."""

from fracturelab.cli import build_parser, main
from scripts import documents, machines, research

raise SystemExit(main(parser=build_parser((research, documents, machines), prog="python -m scripts")))
