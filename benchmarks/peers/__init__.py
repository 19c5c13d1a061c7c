"""What others reach on the same machine, in the same run. One script for each peer, run in a venv of their own.

A script has a server, which stands for the device, and a client: its own library's client, on its own library's
protocol. `harness` gives all of them the same command line and the same clock. `environment` makes the venv; `rows`
runs them and makes rows of what they print. The scripts import nothing of ours but the harness.
"""
