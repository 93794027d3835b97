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
	DataDir       string        `key:"data_dir"`       // absolute
	ShutdownGrace time.Duration `key:"shutdown_grace"` // what running transfers get at a stop

	API       API       `key:"api"`
	Poll      Poll      `key:"poll"`
	Drop      Drop      `key:"drop"`
	State     State     `key:"state"`
	Storage   Storage   `key:"storage"`
	Download  Download  `key:"download"`
	Server    Server    `key:"server"`
	Webhook   Webhook   `key:"webhook"`
	Hook      Hook      `key:"hook"`
	Retention Retention `key:"retention"`
	Backup    Backup    `key:"backup"`
	Log       Log       `key:"log"`

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
	BaseURL  string        `key:"base_url"`  // https, but for loopback
	RunsPath string        `key:"runs_path"` // begins with a slash, or is "auto"
	KeyFile  string        `key:"key_file"`  // absolute; empty: none
	Rate     float64       `key:"rate"`      // requests a second, averaged over 2 minutes; at least 1
	Burst    int           `key:"burst"`     // requests at once; at least 1
	Timeout  time.Duration `key:"timeout"`
	Proxy    string        `key:"proxy"` // may hold a password; empty: none
}

// Poll says how often a run is asked for, and when no longer.
type Poll struct {
	MinInterval   time.Duration `key:"min_interval"`
	MaxInterval   time.Duration `key:"max_interval"` // at least MinInterval
	GiveUpAfter   time.Duration `key:"give_up_after"`
	NotFoundAfter time.Duration `key:"not_found_after"`
}

// Drop is the drop directory.
type Drop struct {
	Dir    string        `key:"dir"` // absolute
	Settle time.Duration `key:"settle"`
	Rescan time.Duration `key:"rescan"`
	Keep   time.Duration `key:"keep"`
}

// State is where the queue and the socket are.
type State struct {
	Dir string `key:"dir"` // absolute
}

// Storage is the volume that assets are stored on.
type Storage struct {
	Dir      string      `key:"dir"` // absolute
	Default  bool        `key:"-"`   // Dir was not set: it is the one directory that is made where it is missing
	Mounted  bool        `key:"mounted"`
	RunDir   string      `key:"run_dir"`
	FileName string      `key:"file_name"`
	MinFree  int64       `key:"min_free"`  // bytes
	FileMode fs.FileMode `key:"file_mode"` // at most 0777
	DirMode  fs.FileMode `key:"dir_mode"`  // at most 0777
}

// Download says how assets are fetched.
type Download struct {
	Workers       int            `key:"workers"`
	Connections   int            `key:"connections"`
	MaxOpen       int            `key:"max_open"`
	HostRate      float64        `key:"host_rate"`  // requests a second to one host; 0: learned
	MaxRate       int64          `key:"max_rate"`   // bytes a second; 0: no limit
	Proxy         string         `key:"proxy"`      // may hold a password; empty: none
	UserAgent     string         `key:"user_agent"` // empty where Options name no version
	Margin        time.Duration  `key:"margin"`
	StallTimeout  time.Duration  `key:"stall_timeout"`
	GiveUpAfter   time.Duration  `key:"give_up_after"`
	LostAfter     time.Duration  `key:"lost_after"`
	MaxSize       int64          `key:"max_size"` // bytes; at least 1
	AllowHTTP     bool           `key:"allow_http"`
	AllowNetworks []netip.Prefix `key:"allow_networks"`
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
	Listen       string `key:"listen"`         // host:port; empty: only the socket
	TokenFile    string `key:"token_file"`     // absolute; empty: none
	AddTokenFile string `key:"add_token_file"` // absolute; empty: none
}

// Webhook is the receiver of the API's webhooks.
type Webhook struct {
	SecretFile string `key:"secret_file"` // absolute; empty: no receiver
}

// Hook is who is told about settled runs and losses.
type Hook struct {
	Command     string        `key:"command"`
	URL         string        `key:"url"`         // may hold a token; empty: none
	SecretFile  string        `key:"secret_file"` // absolute; empty: none
	Timeout     time.Duration `key:"timeout"`     // of one try; at most 24h
	GiveUpAfter time.Duration `key:"give_up_after"`
}

// Retention says how long settled runs stay in the queue's history.
type Retention struct {
	Runs time.Duration `key:"runs"`
}

// Backup says how often the queue is copied, and how many copies are kept.
type Backup struct {
	Interval time.Duration `key:"interval"`
	Keep     int           `key:"keep"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `key:"level"`  // debug, info, warn or error
	Format string `key:"format"` // auto, json or console
}
