package daemon

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier speaks sd_notify(3) to the service manager, if there is one.
type notifier struct{}

func (notifier) ready(status string)    { sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+status) }
func (notifier) stopping(status string) { sd.SdNotify(false, sd.SdNotifyStopping+"\nSTATUS="+status) }

// reloading must be followed by ready. The monotonic time is for Type=notify-reload.
func (notifier) reloading() { sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec()) }

// watchdog feeds the service manager's watchdog while alive says so, twice in its
// interval. It returns at once where none is set.
func (notifier) watchdog(ctx context.Context, alive func() bool) error {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil //nolint:nilerr // no watchdog, or one we do not understand: nothing to feed
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
