"""The edge: stages run until an exit accepts, in a program, as a command, over HTTP; no torch."""
