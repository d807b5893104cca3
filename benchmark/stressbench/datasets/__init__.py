"""Where images come from: the embedded set, Parquet folders, the hub, and the official archives beside them."""
