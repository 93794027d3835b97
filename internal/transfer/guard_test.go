package transfer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestOnlyPublicAddressesAreReachable(t *testing.T) {
	for _, ip := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1",
		"192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
		"239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8",
		"100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:0808:0808::1",
		"3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1",
	} {
		if reachable(netip.MustParseAddr(ip), nil) {
			t.Errorf("%s counts as public", ip)
		}
	}
	for _, ip := range []string{
		"1.1.1.1", "8.8.8.8", "11.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1",
		"198.17.0.1", "198.20.0.1", "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
		"2606:4700::1", "2a00:1450::1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2600::1",
	} {
		if !reachable(netip.MustParseAddr(ip), nil) {
			t.Errorf("%s counts as not public", ip)
		}
	}
}

func TestAllowedNetworksLetThroughInEveryForm(t *testing.T) {
	allowed := unmap([]netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("::ffff:192.168.0.0/112"), netip.MustParsePrefix("fd00::/8"),
	})
	for ip, want := range map[string]bool{
		"10.9.9.9": true, "::ffff:10.9.9.9": true, "64:ff9b::10.9.9.9": true, "192.168.7.7": true, "fd00::1": true,
		"192.169.0.1": true, "192.167.0.1": true, "172.16.0.1": false, "fe80::1": false, "127.0.0.1": false,
	} {
		if got := reachable(netip.MustParseAddr(ip), allowed); got != want {
			t.Errorf("%s: reachable %v, want %v", ip, got, want)
		}
	}
}

func TestHostsThatAreAddressesAreReadInEveryForm(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "127.0.0.1.": "127.0.0.1", "127.1": "127.0.0.1", "127.0.1": "127.0.0.1",
		"2130706433": "127.0.0.1", "0x7f000001": "127.0.0.1", "0X7F.1": "127.0.0.1", "017700000001": "127.0.0.1",
		"0177.0.0.1": "127.0.0.1", "0": "0.0.0.0", "169.254.43518": "169.254.169.254", "::1": "::1", "fe80::1%eth0": "fe80::1%eth0",
		"::ffff:127.0.0.1": "::ffff:127.0.0.1", "1.2.3.4": "1.2.3.4",
		"cdn.test": "", "1.2.3.4.5": "", "256.1.1.1": "", "4294967296": "", "1..2": "", "0b1.0.0.1": "", "1.2.3.": "1.2.0.3", "": "", "a.1": "", "1.2.3.com": "",
	} {
		got, ok := literal(host)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q reads as %v, %v; want %q", host, got, ok, want)
		}
	}
}

// aServer counts what reaches it on loopback, whatever name it is asked by.
func aServer(t *testing.T) (port string, reached *atomic.Int32) {
	t.Helper()
	reached = new(atomic.Int32)
	body := picture(100, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		content(`"v1"`, body)(w, r)
	}))
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port, reached
}

func TestAddressesThatAreNotPublicAreRefusedAtOnce(t *testing.T) {
	port, reached := aServer(t)
	c := newClient(t, Config{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}})
	for _, host := range []string{
		"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::]", "2130706433", "0x7f000001", "127.1",
		"169.254.169.254", "[64:ff9b::127.0.0.1]", "10.0.0.1", "[fe80::1%25lo]",
	} {
		f := failed(t, c, "http://"+host+":"+port+"/a.png?"+secret, &memPart{}, Rule)
		if !strings.Contains(f.Error(), "not a public address") {
			t.Errorf("%s: %v", host, f)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Fatalf("%d requests reached the server", n)
	}
}

// resolver answers every name with the addresses given, round by round: the n-th
// question after the n-th row, the last row for all that follow.
func resolver(t *testing.T, rounds ...[]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		asked := 0
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil || len(q.Questions) == 0 {
				continue
			}
			q.Response, q.Authoritative, q.RecursionAvailable = true, true, true
			q.Additionals = nil
			if q.Questions[0].Type == dnsmessage.TypeA {
				for _, ip := range rounds[min(asked, len(rounds)-1)] {
					q.Answers = append(q.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
						Body:   &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()},
					})
				}
				asked++
			}
			if out, err := q.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// Only 127.0.0.1 is let through in these: it stands for the public address.
var onlyOne = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

func TestNameThatResolvesDifferentlyTheSecondTimeIsRefused(t *testing.T) {
	port, reached := aServer(t)
	c := newClient(t, Config{AllowNetworks: onlyOne})
	c.transport.DisableKeepAlives = true
	c.dialer.Resolver = resolver(t, []string{"127.0.0.1"}, []string{"127.0.0.2"})
	url := "http://cdn.test:" + port + "/a.png?" + secret
	fetched(t, c, url, &memPart{})
	failed(t, c, url, &memPart{}, Network)
	if n := reached.Load(); n != 1 {
		t.Fatalf("%d requests reached the server, want the first alone", n)
	}
}

// Only what is written in the URL is final: a name may resolve to another address the
// next time.
func TestCase_A11_NameWithAnAddressThatIsNotPublicIsAFailureOfTheNetwork(t *testing.T) {
	port, reached := aServer(t)
	for _, address := range []string{
		"198.18.0.7", "0.0.0.0", "192.168.1.1", "10.0.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "192.0.2.1", "224.0.0.1", "255.255.255.255", "127.0.0.2",
	} {
		c := newClient(t, Config{AllowNetworks: onlyOne})
		c.dialer.Resolver = resolver(t, []string{address}, []string{address, "10.9.9.9"}, []string{"127.0.0.1"})
		url := "http://cdn.test:" + port + "/a.png?" + secret
		before := reached.Load()
		for range 2 {
			f := failed(t, c, url, &memPart{}, Network)
			if f.Phase != Connecting || !strings.Contains(f.Error(), "is not a public address") || !strings.Contains(f.Error(), "allow_networks") {
				t.Errorf("%s: phase %d, %v", address, f.Phase, f)
			}
		}
		if n := reached.Load() - before; n != 0 {
			t.Fatalf("%s: %d requests reached the server", address, n)
		}
		fetched(t, c, url, &memPart{})
		final := failed(t, c, "http://"+address+":"+port+"/a.png?"+secret, &memPart{}, Rule)
		if final.Phase != NoPhase {
			t.Errorf("%s: phase %d of a request that was not made", address, final.Phase)
		}
	}
	c := newClient(t, Config{AllowNetworks: []netip.Prefix{}})
	failed(t, c, "http://localhost:"+port+"/a.png?"+secret, &memPart{}, Network) // a name, too
}

func TestPublicAddressOfAMixedNameIsUsed(t *testing.T) {
	port, _ := aServer(t)
	c := newClient(t, Config{AllowNetworks: onlyOne})
	c.dialer.Resolver = resolver(t, []string{"127.0.0.2", "192.168.77.1", "169.254.169.254", "127.0.0.1"})
	fetched(t, c, "http://cdn.test:"+port+"/a.png?"+secret, &memPart{})
}

func TestMixedNameWhosePublicAddressIsDownIsNoRefusal(t *testing.T) {
	c := newClient(t, Config{AllowNetworks: onlyOne})
	c.dialer.Resolver = resolver(t, []string{"127.0.0.2", "127.0.0.1"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	f := failed(t, c, "http://cdn.test:"+portOf(l)+"/a.png?"+secret, &memPart{}, Network)
	if !strings.Contains(f.Error(), "cannot be reached") || !strings.Contains(f.Error(), "127.0.0.2 is not a public") {
		t.Errorf("the error tells not both: %v", f)
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestUnknownNameIsAFailureOfTheNetwork(t *testing.T) {
	c := newClient(t, Config{})
	c.dialer.Resolver = resolver(t, nil)
	f := failed(t, c, "http://cdn.test/a.png?"+secret, &memPart{}, Network)
	if !strings.Contains(f.Error(), "cdn.test") || f.Host != "cdn.test" {
		t.Errorf("it does not name the host: %v, %q", f, f.Host)
	}
}

func TestHTTPIsRefusedUnlessAllowed(t *testing.T) {
	port, reached := aServer(t)
	c := newClient(t, Config{})
	cfg := *c.cfg.Load()
	cfg.AllowHTTP = false
	c.Configure(cfg)
	f := failed(t, c, "http://127.0.0.1:"+port+"/a.png?"+secret, &memPart{}, Rule)
	if !strings.Contains(f.Error(), "allow_http") || reached.Load() != 0 {
		t.Errorf("%v, %d requests", f, reached.Load())
	}
}

func TestThroughAProxyOnlyWhatIsWrittenInTheURLIsJudged(t *testing.T) {
	var seen []string
	body := picture(100, 1)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.RequestURI)
		content(`"v1"`, body)(w, r)
	}))
	t.Cleanup(p.Close)
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Config{Proxy: at, AllowNetworks: []netip.Prefix{}}) // the proxy's own address is not public
	for _, host := range []string{"127.0.0.1", "10.0.0.1", "2130706433", "[::ffff:10.0.0.1]", "１２７.0.0.1"} {
		failed(t, c, "http://"+host+"/a.png?"+secret, &memPart{}, Rule)
	}
	if len(seen) != 0 {
		t.Fatalf("the proxy was asked for %q", seen)
	}
	part := &memPart{}
	mustBe(t, fetched(t, c, "http://internal.test/a.png?"+secret, part), part, body)
	if want := "http://internal.test/a.png?" + secret; len(seen) != 1 || seen[0] != want {
		t.Fatalf("the proxy was asked for %q, want %q", seen, want)
	}
}

func TestSOCKSProxyIsAskedByName(t *testing.T) {
	body := picture(100, 1)
	c := newClient(t, Config{Proxy: &url.URL{Scheme: "socks5", Host: "proxy.test", User: url.UserPassword("u", "p")}})
	var greeting, connect []byte
	onPipes(t, c, func(conn net.Conn) {
		read := func(n int) []byte {
			b := make([]byte, n)
			_, _ = io.ReadFull(conn, b)
			return b
		}
		greeting = read(4)                      // version 5, two methods
		_, _ = conn.Write([]byte{5, 2})         // user and password
		_ = read(5)                             // u, p
		_, _ = conn.Write([]byte{1, 0})         // well
		connect = read(5 + len("cdn.test") + 2) // by name
		_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		readRequest(t, conn)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	})
	part := &memPart{}
	mustBe(t, fetched(t, c, "http://cdn.test/a.png?"+secret, part), part, body)
	if string(connect) != "\x05\x01\x00\x03\x08cdn.test\x00\x50" {
		t.Errorf("greeted with %q, asked for %q", greeting, connect)
	}
	failed(t, c, "http://10.0.0.1/a.png?"+secret, &memPart{}, Rule)
}

func TestProxyThatCannotBeUsedIsNamedAtOnce(t *testing.T) {
	for _, p := range []*url.URL{{Scheme: "ftp", Host: "p"}, {Scheme: "http"}} {
		if _, err := New(Config{Proxy: p}, &dates{}); err == nil || !strings.Contains(err.Error(), "proxy") {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func FuzzLiteral(f *testing.F) {
	for _, s := range []string{"127.1", "0x7f.1", "::1", "1.2.3.4.", "a.b", "999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		ip, ok := literal(host)
		if ok && !ip.IsValid() {
			t.Fatalf("%q reads as an invalid address", host)
		}
		if std := net.ParseIP(host); std != nil && !ok {
			t.Fatalf("%q is an address that was not read", host)
		}
		if ok && reachable(ip, nil) && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()) {
			t.Fatalf("%q (%s) counts as public", host, ip)
		}
	})
}
