"""Datasets: the embedded ones, Parquet folders, the Hugging Face hub, and official archives beside them."""
