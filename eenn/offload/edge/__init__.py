"""The edge: stages run until an exit accepts, as a library, a command or an HTTP server. No
torch."""
