"""The signals of a terminal, however the tests were started."""

import signal

# What starts in the background of a script, or by nohup, ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
