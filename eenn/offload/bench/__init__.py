"""What measures edge and cloud: ways to answer, the emulated link, the parts' times."""
