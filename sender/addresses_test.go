package sender

import "strings"

// private are hosts as they may be written, and what a resolver makes of those
// that are no addresses to Go. Some resolvers read numbers as inet_aton does.
const private = `
127.0.0.1
127.255.255.254
0.0.0.0
0.1.2.3
10.0.0.1
10.255.255.255
172.16.0.1
172.31.255.254
192.168.0.1
100.64.0.1
100.127.255.255
169.254.1.1
192.0.0.1
192.0.2.1
192.31.196.1
192.52.193.1
192.88.99.1
192.175.48.1
198.18.0.1
198.19.255.255
198.51.100.7
203.0.113.9
224.0.0.1
239.255.255.255
240.0.0.1
255.255.255.255
[::]
[::1]
[0:0:0:0:0:0:0:1]
[::127.0.0.1]
[::7f00:1]
[::ffff:127.0.0.1]
[::ffff:7f00:1]
[0:0:0:0:0:ffff:10.0.0.1]
[::ffff:0:127.0.0.1]
[64:ff9b::127.0.0.1]
[64:ff9b::a00:1]
[64:ff9b:1::1]
[64:ff9b:1::8.8.8.8]
[100::1]
[2001::1]
[2001:0:4136:e378:8000:63bf:3fff:fdd2]
[2001:2::1]
[2001:10::1]
[2001:20::1]
[2001:db8::1]
[2002:7f00:1::1]
[2002:a00:1::]
[2620:4f:8000::1]
[3fff::1]
[5f00::1]
[fc00::1]
[fd12:3456::1]
[fe80::1]
[fe80::1%25lo]
[fe80::1%251]
[fec0::1]
[ff02::1]
[ff0e::1]
[4000::1]
[fd00:ec2::1]
localhost
LOCALHOST
localhost. = 127.0.0.1
ⓛⓞⓒⓐⓛⓗⓞⓢⓣ
127。0。0。1
１２７.0.0.1
0x7f000001 = 127.0.0.1
0x7f.0.0.1 = 127.0.0.1
0x7f.1 = 127.0.0.1
inside.example = 10.1.2.3
xn--bcher-kva.example = 192.168.3.4
bücher.example = 192.168.3.4
v6.example = fd00::5
mapped.example = ::ffff:10.0.0.1
nat64.example = 64:ff9b::10.0.0.1
`

// refusedAlways are metadata services and ways to write them.
const refusedAlways = `
169.254.169.254
169.254.170.2
169.254.170.23
168.63.129.16
100.100.100.200
192.0.0.192
169.254.0.23
169.254.42.42
[fd00:ec2::254]
[fd00:ec2::23]
[fd20:ce::254]
[fd00:42::42]
[fd00:0ec2:0:0:0:0:0:254]
[fd00:ec2::254%25lo]
[::ffff:169.254.169.254]
[::ffff:a9fe:a9fe]
[::169.254.169.254]
[::ffff:0:169.254.169.254]
[64:ff9b::169.254.169.254]
[64:ff9b:1::a9fe:a9fe]
[2002:a9fe:a9fe::1]
[2001:0:a9fe:a9fe::1]
[2001:0:1:2:3:4:5601:5601]
169。254。169。254
0xa9fea9fe = 169.254.169.254
metadata.google.internal = 169.254.169.254
metadata.example = fd00:ec2::254
mapped-metadata.example = ::ffff:169.254.169.254
`

// numbers are hosts that inet_aton reads as addresses. Go's resolver neither
// does that nor asks for them.
const numbers = `
127.1
127.0.1
0
2130706433
017700000001
0177.0.0.1
10.0.0.010
3232235521
2852039166
0251.0376.0251.0376
169.16689662
`

// hosts reads a list, and returns what a resolver answers.
func hosts(lists ...string) (all []string, zone map[string][]string) {
	zone = map[string][]string{}
	for line := range strings.Lines(strings.Join(lists, "\n")) {
		host, answer, found := strings.Cut(strings.TrimSpace(line), " = ")
		if host == "" {
			continue
		}
		all = append(all, host)
		if found {
			zone[strings.TrimSuffix(host, ".")] = []string{answer}
		}
	}
	zone["xn--bcher-kva.example"] = []string{"192.168.3.4"}
	return all, zone
}
