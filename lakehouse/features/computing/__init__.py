"""Values for rows: in this process, in workers, in other people's executors, on Ray."""
