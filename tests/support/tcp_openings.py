"""How scripts of TCP begin: connections with peers of some abilities, ten segments in flight."""

# a peer without options
OPEN = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
"""
# a round trip of 100 ms
SLOW = OPEN.replace("+.01", "+.1")
# the same, Reno
RENO = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   set TCP_CONGESTION reno
"""
# with SACK
SACK = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
+.01 < . 1:1(0) ack 1 win 65535
+0   accept
"""
# with SACK, Reno
SACK_RENO = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,nop,nop,sackOK>
+0   > S. 0:0(0) ack 1 win 64240 <mss 1460,nop,nop,sackOK>
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   set TCP_CONGESTION reno
"""
# with SACK and timestamps
STAMPS = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 100,nop,wscale 10>
+.01 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 110 ecr 0>
+0   accept
"""
# ten segments
TEN = """
+0   write 10000
+0   > . 1:1001(1000) ack 1
+0   > . 1001:2001(1000) ack 1
+0   > . 2001:3001(1000) ack 1
+0   > . 3001:4001(1000) ack 1
+0   > . 4001:5001(1000) ack 1
+0   > . 5001:6001(1000) ack 1
+0   > . 6001:7001(1000) ack 1
+0   > . 7001:8001(1000) ack 1
+0   > . 8001:9001(1000) ack 1
+0   > P. 9001:10001(1000) ack 1
"""
# all options, a round trip of 100 ms
FULL = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
+0   > S. 0:0(0) ack 1 win 65160 <mss 1460,sackOK,TS val 0 ecr 100,nop,wscale 10>
+.1  < . 1:1(0) ack 1 win 512 <nop,nop,TS val 200 ecr 0>
+0   accept
"""
# the host connects
CONNECTED = """
0    connect
+0   > S 0:0(0) win 64240 <mss 1460,sackOK,TS val 0 ecr 0,nop,wscale 10>
+.1  < S. 0:0(0) ack 1 win 65535 <mss 1000>
+0   > . 1:1(0) ack 1
"""
