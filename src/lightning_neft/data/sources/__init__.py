"""Where records come from: files, folders of the datasets library, the hub, the toy data."""
