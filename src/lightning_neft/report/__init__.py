"""One HTML page from the results of evaluate and study: `write.write_report`."""
