"""What `make run` starts: the whole product on one machine under one small supervisor."""
