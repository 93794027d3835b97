package magnific

import (
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assetd/assetd/internal/clock"
	"github.com/assetd/assetd/internal/run"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "fpsk-planted-0123456789"

// events collects what is told.
type events struct {
	mu   sync.Mutex
	seen []run.Event
}

func (e *events) tell(ev run.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, ev)
}

func (e *events) of(kind run.EventKind) (found []run.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.seen {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

func config(base string) Config {
	return Config{BaseURL: base, RunsPath: "/v1/ai/apps/runs", Rate: 10, Burst: 50, Timeout: 10 * time.Second}
}

func newClient(t *testing.T, base string, told *events) *Client {
	t.Helper()
	if told == nil {
		told = &events{}
	}
	c, err := New(config(base), testKey, clock.New(), told.tell)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestTheFingerprintNamesURLPathAndKeyTogether(t *testing.T) {
	of := func(base, path, key, salt string) string {
		cfg := config(base)
		cfg.RunsPath = path
		c, err := New(cfg, key, clock.New(), (&events{}).tell)
		if err != nil {
			t.Fatal(err)
		}
		return c.Fingerprint(salt)
	}
	base := of("https://a.test", "/v1/runs", "key", "salt")
	if len(base) != 32 || base != of("https://a.test/", "v1/runs", "key", "salt") {
		t.Errorf("%q is not the same fingerprint for the same place", base)
	}
	for i, other := range []string{
		of("https://b.test", "/v1/runs", "key", "salt"), of("https://a.test", "/v1/flows", "key", "salt"),
		of("https://a.test", "/v1/runs", "key2", "salt"), of("https://a.test", "/v1/runs", "key", "pepper"),
		of("https://a.test", "/v1/runs", "", "salt"), of("http://a.test", "/v1/runs", "key", "salt"),
	} {
		if other == base {
			t.Errorf("case %d: the fingerprint does not tell the difference", i)
		}
	}
	c := newClient(t, "https://a.test", nil)
	before := c.Fingerprint("salt")
	c.SetKey("another")
	if c.Fingerprint("salt") == before {
		t.Error("another key has the same fingerprint")
	}
}

func TestNewRefusesWhatItCannotUseWithoutQuotingSecrets(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.BaseURL = "api.magnific.com" },
		func(c *Config) { c.BaseURL = "ftp://api.magnific.com" },
		func(c *Config) { c.BaseURL = "https://\x00" },
		func(c *Config) { c.Proxy = "proxy:s3cret@host" },
		func(c *Config) { c.Proxy = "http://user:s3cret@host:port\x7f" },
		func(c *Config) { c.Proxy = "gopher://user:s3cret@host" },
	} {
		cfg := config("https://api.test")
		change(&cfg)
		_, err := New(cfg, testKey, clock.New(), (&events{}).tell)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
