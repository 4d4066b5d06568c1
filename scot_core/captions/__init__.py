"""Captioned images at any size (§4.1): COCO, Flickr30K, ABO and one's own.

A reader streams the entries of published files; `spool` draws some of them and lays them out in shards; `pictures`
checks their image files. Nothing here holds a whole data set in memory.
"""
