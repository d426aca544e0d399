"""SIP messages: parsing on demand, edits, building. Sans-IO; text is latin-1 ``str`` throughout."""
