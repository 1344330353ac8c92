"""BPF_PROG_TEST_RUN: programs on input that the caller makes up, a file a family of types."""
