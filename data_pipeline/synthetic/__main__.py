"""Runs `python -m data_pipeline.synthetic`."""

from data_pipeline.synthetic.videos import main

main()
