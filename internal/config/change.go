package config

// Live names the keys whose values differ between two configurations: those that
// take effect at a SIGHUP, and those that need a restart. The API key itself is
// none of them: it is read anew by APIKey.
func Live(old, next *Config) (live, restart []string) {
	for _, k := range table() {
		switch {
		case show(old.values[k.name]) == show(next.values[k.name]):
		case k.live:
			live = append(live, k.name)
		default:
			restart = append(restart, k.name)
		}
	}
	return live, restart
}

// Reloaded is c with the values of next for the keys that take effect at a SIGHUP:
// what a daemon that was started with c works with from now on. Its API key is
// next's.
func (c *Config) Reloaded(next *Config) *Config {
	values := map[string]any{}
	for _, k := range table() {
		from := c
		if k.live {
			from = next
		}
		values[k.name] = from.values[k.name]
	}
	mixed := &Config{file: next.file, values: values, origins: next.origins, env: next.env, uid: next.uid, unitKey: next.unitKey}
	mixed.fill()
	mixed.Storage.Default = c.Storage.Default
	return mixed
}
