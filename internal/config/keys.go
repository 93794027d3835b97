package config

import "time"

// key is one setting.
type key struct {
	name    string // section and name, joined by a dot
	initial string // its default, as it stands in a file
	kind    kind
	live    bool // taken at a SIGHUP
}

// envName is the environment variable that sets the key.
func (k key) envName() string { return envPrefix + upper(k.name) }

// table is every key, in the order of configs/assetd.yaml. Where a default is
// empty but stands for something (the directories, the User-Agent), derive fills it in.
func table() []key {
	const live = true
	return []key{
		{name: "data_dir", kind: dirPath()},
		{name: "shutdown_grace", initial: "25s", kind: duration()},

		{name: "api.base_url", initial: "https://api.magnific.com", kind: baseURL()},
		{name: "api.runs_path", initial: autoPath, kind: runsPath()},
		{name: "api.key_file", kind: secretFile(), live: live}, // the key it holds is what changes
		{name: "api.rate", initial: "5", kind: number(false), live: live},
		{name: "api.burst", initial: "50", kind: count(1), live: live},
		{name: "api.timeout", initial: "30s", kind: duration(), live: live},
		{name: "api.proxy", kind: proxyURL()},

		{name: "poll.min_interval", initial: "3s", kind: duration(), live: live},
		{name: "poll.max_interval", initial: "1m", kind: duration(), live: live},
		{name: "poll.give_up_after", initial: "72h", kind: duration(), live: live},
		{name: "poll.not_found_after", initial: "1h", kind: duration(), live: live},

		{name: "drop.dir", kind: dirPath()},
		{name: "drop.settle", initial: "2s", kind: duration(), live: live},
		{name: "drop.rescan", initial: "10s", kind: duration(), live: live},
		{name: "drop.keep", initial: "168h", kind: duration(), live: live},

		{name: "state.dir", kind: dirPath()},

		{name: "storage.dir", kind: dirPath()},
		{name: "storage.mounted", initial: "false", kind: flag()},
		{name: "storage.run_dir", initial: "{app_id}/{run_id}", kind: runDir()},
		{name: "storage.file_name", initial: "{kind}/{asset_id}{ext}", kind: fileName()},
		{name: "storage.min_free", initial: "1GiB", kind: size(0), live: live},
		{name: "storage.file_mode", initial: "0640", kind: mode()},
		{name: "storage.dir_mode", initial: "0750", kind: mode()},

		{name: "download.workers", initial: "16", kind: count(1)},
		{name: "download.connections", initial: "16", kind: count(1)},
		{name: "download.max_open", initial: "256", kind: count(0)},
		{name: "download.host_rate", initial: "0", kind: number(true)},
		{name: "download.max_rate", initial: "0", kind: byteRate(), live: live},
		{name: "download.proxy", kind: proxyURL()},
		{name: "download.user_agent", kind: userAgent()},
		{name: "download.margin", initial: "2m", kind: duration(), live: live},
		{name: "download.stall_timeout", initial: "30s", kind: duration(), live: live},
		{name: "download.give_up_after", initial: "30m", kind: duration(), live: live},
		{name: "download.lost_after", initial: "168h", kind: duration(), live: live},
		{name: "download.max_size", initial: "64GiB", kind: size(1)},
		{name: "download.allow_http", initial: "false", kind: flag()},
		{name: "download.allow_networks", kind: networks()},

		{name: "server.listen", initial: "127.0.0.1:7433", kind: listen()},
		{name: "server.token_file", kind: secretFile()},
		{name: "server.add_token_file", kind: secretFile()},

		{name: "webhook.secret_file", kind: secretFile()},

		{name: "hook.command", kind: command(), live: live},
		{name: "hook.url", kind: hookURL(), live: live},
		{name: "hook.secret_file", kind: secretFile(), live: live},
		{name: "hook.timeout", initial: "30s", kind: durationTo(24 * time.Hour), live: live},
		{name: "hook.give_up_after", initial: "72h", kind: duration(), live: live},

		{name: "retention.runs", initial: "720h", kind: duration(), live: live},

		{name: "backup.interval", initial: "1h", kind: duration()},
		{name: "backup.keep", initial: "3", kind: count(1)},

		{name: "log.level", initial: "info", kind: choice("debug", "info", "warn", "error"), live: live},
		{name: "log.format", initial: "auto", kind: choice("auto", "json", "console"), live: live},
	}
}
