"""The public test kit: applications in one process, without Ray and without ports."""
