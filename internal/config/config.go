// Package config is the daemon's configuration: every key, its default and its
// range, read from --set, the environment and a YAML file.
//
// It guarantees that a configuration it gives is one the stages can work with:
// every value has its type and its range, every template its placeholders, every
// path is absolute, and nothing that was written is ignored in silence. Whatever
// is wrong is told at once, each with key, value, line and mend, and whatever is
// merely unwise is a warning. It prints no secret: neither the API key, nor what
// a URL holds besides scheme, host and path.
//
// It leaves to others whether directories exist and can be written, and which
// stage takes which value when.
package config

import (
	"io/fs"
	"net/netip"
	"net/url"
	"time"
)

// Config is the configuration in force. It is read only and safe for concurrent
// use once Load gave it.
type Config struct {
	DataDir       string        `koanf:"data_dir"`       // absolute
	ShutdownGrace time.Duration `koanf:"shutdown_grace"` // what running transfers get at a stop

	API       API       `koanf:"api"`
	Poll      Poll      `koanf:"poll"`
	Drop      Drop      `koanf:"drop"`
	State     State     `koanf:"state"`
	Storage   Storage   `koanf:"storage"`
	Download  Download  `koanf:"download"`
	Server    Server    `koanf:"server"`
	Webhook   Webhook   `koanf:"webhook"`
	Hook      Hook      `koanf:"hook"`
	Retention Retention `koanf:"retention"`
	Backup    Backup    `koanf:"backup"`
	Log       Log       `koanf:"log"`

	file    string            // the file that was read; empty: none
	values  map[string]any    // by key, as in the fields
	origins map[string]string // where values come from that were set
	env     environment
	uid     int
	unitKey string // the service's key file
}

// File is the path of the file that was read; empty where there was none.
func (c *Config) File() string { return c.file }

// API says where the Magnific API is and how it may be asked.
type API struct {
	BaseURL  string        `koanf:"base_url"`  // https, but for loopback
	RunsPath string        `koanf:"runs_path"` // begins with a slash, or is "auto"
	KeyFile  string        `koanf:"key_file"`  // absolute; empty: none
	Rate     float64       `koanf:"rate"`      // requests a second, averaged over 2 minutes; at least 1
	Burst    int           `koanf:"burst"`     // requests at once; at least 1
	Timeout  time.Duration `koanf:"timeout"`
	Proxy    string        `koanf:"proxy"` // may hold a password; empty: none
}

// Poll says how often a run is asked for, and when no longer.
type Poll struct {
	MinInterval   time.Duration `koanf:"min_interval"`
	MaxInterval   time.Duration `koanf:"max_interval"` // at least MinInterval
	GiveUpAfter   time.Duration `koanf:"give_up_after"`
	NotFoundAfter time.Duration `koanf:"not_found_after"`
}

// Drop is the drop directory.
type Drop struct {
	Dir    string        `koanf:"dir"` // absolute
	Settle time.Duration `koanf:"settle"`
	Rescan time.Duration `koanf:"rescan"`
	Keep   time.Duration `koanf:"keep"`
}

// State is where the queue and the socket are.
type State struct {
	Dir string `koanf:"dir"` // absolute
}

// Storage is the volume that assets are stored on.
type Storage struct {
	Dir      string      `koanf:"dir"` // absolute
	Default  bool        `koanf:"-"`   // Dir was not set: it is the one directory that is made where it is missing
	Mounted  bool        `koanf:"mounted"`
	RunDir   string      `koanf:"run_dir"`
	FileName string      `koanf:"file_name"`
	MinFree  int64       `koanf:"min_free"`  // bytes
	FileMode fs.FileMode `koanf:"file_mode"` // at most 0777
	DirMode  fs.FileMode `koanf:"dir_mode"`  // at most 0777
}

// Download says how assets are fetched.
type Download struct {
	Workers       int            `koanf:"workers"`
	Connections   int            `koanf:"connections"`
	MaxOpen       int            `koanf:"max_open"`
	HostRate      float64        `koanf:"host_rate"`  // requests a second to one host; 0: learned
	MaxRate       int64          `koanf:"max_rate"`   // bytes a second; 0: no limit
	Proxy         string         `koanf:"proxy"`      // may hold a password; empty: none
	UserAgent     string         `koanf:"user_agent"` // empty where Options name no version
	Margin        time.Duration  `koanf:"margin"`
	StallTimeout  time.Duration  `koanf:"stall_timeout"`
	GiveUpAfter   time.Duration  `koanf:"give_up_after"`
	LostAfter     time.Duration  `koanf:"lost_after"`
	MaxSize       int64          `koanf:"max_size"` // bytes; at least 1
	AllowHTTP     bool           `koanf:"allow_http"`
	AllowNetworks []netip.Prefix `koanf:"allow_networks"`
}

// ProxyURL is Proxy as a URL; nil: none.
func (d Download) ProxyURL() *url.URL {
	if d.Proxy == "" {
		return nil
	}
	u, err := url.Parse(d.Proxy)
	if err != nil {
		return nil // Load took only what parses
	}
	return u
}

// Server is the HTTP side.
type Server struct {
	Listen       string `koanf:"listen"`         // host:port; empty: only the socket
	TokenFile    string `koanf:"token_file"`     // absolute; empty: none
	AddTokenFile string `koanf:"add_token_file"` // absolute; empty: none
}

// Webhook is the receiver of the API's webhooks.
type Webhook struct {
	SecretFile string `koanf:"secret_file"` // absolute; empty: no receiver
}

// Hook is who is told about settled runs and losses.
type Hook struct {
	Command     string        `koanf:"command"`
	URL         string        `koanf:"url"`         // may hold a token; empty: none
	SecretFile  string        `koanf:"secret_file"` // absolute; empty: none
	Timeout     time.Duration `koanf:"timeout"`     // of one try; at most 24h
	GiveUpAfter time.Duration `koanf:"give_up_after"`
}

// Retention says how long settled runs stay in the queue's history.
type Retention struct {
	Runs time.Duration `koanf:"runs"`
}

// Backup says how often the queue is copied, and how many copies are kept.
type Backup struct {
	Interval time.Duration `koanf:"interval"`
	Keep     int           `koanf:"keep"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `koanf:"level"`  // debug, info, warn or error
	Format string `koanf:"format"` // auto, json or console
}
