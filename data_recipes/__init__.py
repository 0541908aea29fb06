"""Raw datasets to webdataset shards, and the one data model: everything is retrieval.

Every module beside `core/` is one dataset's recipe; dropping a file in is its registration.
"""
