"""The status page: a small HTTP server beside a running kamc, which it asks over the control socket."""
