"""What generated code calls into. Nothing in here imports the compiler."""
