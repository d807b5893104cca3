def spatter(images, keys, severity): raise NotImplementedError
