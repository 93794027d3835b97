package daemon

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// systemd speaks sd_notify(3) to the service manager, if there is one.
type systemd struct{}

func (systemd) ready(status string)    { sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+status) }
func (systemd) stopping(status string) { sd.SdNotify(false, sd.SdNotifyStopping+"\nSTATUS="+status) }

// reloading must be followed by ready. The monotonic time is for Type=notify-reload.
func (systemd) reloading() { sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec()) }

// watchdog feeds the service manager's watchdog twice per interval, as long as alive returns
// true, until ctx ends. It returns nil, at once if there is no watchdog.
func (systemd) watchdog(ctx context.Context, alive func() bool) error {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil //nolint:nilerr // no watchdog, or not a valid one
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		if alive() {
			sd.SdNotify(false, sd.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
