"""The Python API: what `import stressbench` offers beside the contract. It stands above every other room but `cli`."""
