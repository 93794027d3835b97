package server

import (
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// family is one metric that is read when it is asked for.
type family struct {
	name, help string
	label      string // empty: it has none
	counts     bool   // it only grows
	read       func(standing) []sample
}

type sample struct {
	value float64
	label []string // its value, where the family has one
}

// families is all of them, in no order that matters.
func families() []family {
	return slices.Concat(queueFamilies(), workFamilies(), limitFamilies(), aroundFamilies())
}

func queueFamilies() []family {
	return []family{
		{name: "queue_up", help: "Whether the queue could be read for this scrape. Where it is 0 the figures about runs, assets and the queue are missing.", read: is(func(s standing) bool { return s.queue != nil })},
		{name: "runs", help: "Runs in the queue by state: waiting for the API, downloading, and settled as stored, partial or failed. Settled ones leave with their retention.", label: "state", read: fromQueue(runsByState)},
		{name: "assets", help: "Assets in the queue by state. Verified ones are whole and wait for their final name; lost ones are named in their run's manifest.", label: "state", read: assetsByState},
		{name: "queue_depth", help: "Runs that are not settled.", read: fromQueue(func(q Queued) []sample { return one(float64(open(q))) })},
		{name: "oldest_open_run_age_seconds", help: "Age of the oldest run that is not settled. Missing where there is none, and until the queue was looked through after a start.", read: fromQueue(func(q Queued) []sample { return lasts(q.Oldest) })},
		{name: "poll_lag_seconds", help: "For how long the run to be polled next has been due.", read: fromQueue(func(q Queued) []sample { return one(q.Late.Seconds()) })},
		{name: "nearest_deadline_seconds", help: "Time until the first waiting asset should be there: the death of its URL less download.margin. Negative: it should have been. Missing where none waits whose death is known.", read: fromQueue(func(q Queued) []sample { return lasts(q.Deadline) })},
		{name: "outbox_depth", help: "Notices that the hooks have not taken yet; more than 10000 are not counted.", read: fromQueue(func(q Queued) []sample { return one(float64(q.Outbox)) })},
		{name: "outbox_oldest_age_seconds", help: "Age of the notice that has waited longest for the hooks. Missing where none waits.", read: fromQueue(func(q Queued) []sample { return lasts(q.First) })},
		{name: "damaged_files", help: "Stored files that verify found damaged or missing and retry has not fetched again yet; a run's manifest.json and SHA256SUMS together count as one.", read: fromQueue(func(q Queued) []sample { return one(float64(q.DamagedFiles)) })},
		{name: "damaged_runs", help: "Runs that these files are of; more than 100000 are not counted.", read: fromQueue(func(q Queued) []sample { return one(float64(q.DamagedRuns)) })},
		{name: "queue_file_bytes", help: "Size of the queue's file in use, free pages included.", read: fromQueue(func(q Queued) []sample { return one(float64(q.Size)) })},
		{name: "queue_file_free_bytes", help: "Free pages in the queue's file. It is made smaller when they are most of it.", read: fromQueue(func(q Queued) []sample { return one(float64(q.Free)) })},
	}
}

func workFamilies() []family {
	return []family{
		{name: "transfers_open", help: "Transfers that run at full speed.", read: of(func(s standing) float64 { return float64(s.Running) })},
		{name: "transfers_held", help: "Transfers held open at a trickle, to be finished after their URLs have died.", read: of(func(s standing) float64 { return float64(s.Held) })},
		{name: "hosts_throttled", help: "Hosts that are left alone for a while because they turn requests away or do not answer.", read: of(func(s standing) float64 { return float64(s.Throttled) })},
		{name: "assets_at_risk", help: "Assets that may not be there before their URLs die and are neither stored nor lost.", read: of(func(s standing) float64 { return float64(s.AtRisk) })},
		{name: "received_bytes_total", help: "Bytes received from hosts of assets, what was in vain included.", counts: true, read: of(func(s standing) float64 { return float64(s.Received) })},
		{name: "link_bytes_per_second", help: "Rate that the link was seen to bring lately. Missing until it was measured.", read: func(s standing) []sample {
			if s.Link == 0 {
				return nil
			}
			return one(float64(s.Link))
		}},
		{name: "drain_seconds", help: "Time that it takes, at that rate, to bring all that dies no later than the asset for which time is shortest. Missing where nothing is pressing.", read: func(s standing) []sample { return lasts(s.Drain) }},
		{name: "drain_slack_seconds", help: "Time left beyond assetd_drain_seconds before that asset's URL dies. Negative: it will be too late.", read: func(s standing) []sample { return lasts(s.Slack) }},
	}
}

func limitFamilies() []family {
	return []family{
		{name: "api_budget_requests_per_second", help: "Requests a second to the API allowed now: api.rate, less after a 429.", read: of(func(s standing) float64 { return s.Budget })},
		{name: "api_budget_tokens", help: "Requests to the API that might go out at once now.", read: of(func(s standing) float64 { return s.Tokens })},
		{name: "storage_min_free_bytes", help: "The setting storage.min_free: with less free, downloads wait.", read: of(func(s standing) float64 { return float64(s.MinFree) })},
		{name: "storage_free_bytes", help: "Free bytes of the volume, as seen within the last seconds. Missing while it is offline or does not tell.", read: func(s standing) []sample {
			if !s.Volume || s.Assets == nil {
				return nil
			}
			return one(float64(s.Assets.Free))
		}},
		{name: "storage_size_bytes", help: "Size of the volume.", read: func(s standing) []sample {
			if !s.Volume || s.Assets == nil {
				return nil
			}
			return one(float64(s.Assets.Size))
		}},
		{name: "state_free_bytes", help: "Free bytes where the queue is (state.dir), as seen within the last seconds.", read: func(s standing) []sample {
			if s.State == nil {
				return nil
			}
			return one(float64(s.State.Free))
		}},
		{name: "state_size_bytes", help: "Size of the file system that the queue is on.", read: func(s standing) []sample {
			if s.State == nil {
				return nil
			}
			return one(float64(s.State.Size))
		}},
	}
}

func aroundFamilies() []family {
	return []family{
		{name: "api_up", help: "0 while the API cannot be reached.", read: is(func(s standing) bool { return s.API })},
		{name: "api_key_accepted", help: "0 while the API refuses the key, and nothing is polled.", read: is(func(s standing) bool { return s.Key })},
		{name: "volume_up", help: "0 while the volume is offline: not mounted, another one, or hanging. Downloads wait.", read: is(func(s standing) bool { return s.Volume })},
		{name: "volume_has_room", help: "0 while downloads wait for room on the volume.", read: is(func(s standing) bool { return s.Space })},
		{name: "drop_directory_readable", help: "0 while the drop directory, accepted/ or rejected/ cannot be used.", read: is(func(s standing) bool { return s.Drop })},
		{name: "drop_last_pass_age_seconds", help: "Time since a look at the drop directory ended last. Grows while its file system hangs; one comes every drop.rescan.", read: of(func(s standing) float64 { return s.LastPass.Seconds() })},
		{name: "queue_writable", help: "0 while the queue cannot be written: nothing is taken in, and nothing is lost.", read: is(func(s standing) bool { return s.Queue })},
		{name: "rejected_drop_files", help: "Files lying in rejected/, each with what is wrong with it in a file beside it.", read: of(func(s standing) float64 { return float64(s.Rejected) })},
		{name: "clock_skew_seconds", help: "How far the API's clock is ahead of this machine's, in whole seconds. Missing until it answered.", read: func(s standing) []sample { return lasts(s.Skew) }},
	}
}

// of is a family of one sample that is always there, is one that is 1 or 0.
func of(value func(standing) float64) func(standing) []sample {
	return func(s standing) []sample { return one(value(s)) }
}

func is(holds func(standing) bool) func(standing) []sample {
	return of(func(s standing) float64 {
		if holds(s) {
			return 1
		}
		return 0
	})
}

// fromQueue is a family that is missing where the queue did not answer.
func fromQueue(read func(Queued) []sample) func(standing) []sample {
	return func(s standing) []sample {
		if s.queue == nil {
			return nil
		}
		return read(*s.queue)
	}
}

func one(value float64) []sample { return []sample{{value: value}} }

// lasts is a time that may not be known.
func lasts(d *time.Duration) []sample {
	if d == nil {
		return nil
	}
	return one(d.Seconds())
}

func open(q Queued) int { return q.Runs[run.Waiting] + q.Runs[run.Downloading] }

func runsByState(q Queued) (all []sample) {
	for _, s := range []run.State{run.Waiting, run.Downloading, run.StoredRun, run.PartialRun, run.FailedRun} {
		all = append(all, sample{float64(q.Runs[s]), []string{string(s)}})
	}
	return all
}

// assetsByState tells those that are being downloaded, whom the queue calls waiting,
// from those that wait.
func assetsByState(s standing) (all []sample) {
	if s.queue == nil {
		return nil
	}
	flying := min(s.Running+s.Held, s.queue.Assets[run.AssetWaiting])
	for _, state := range []run.AssetState{run.AssetWaiting, run.AssetDownloading, run.AssetProvisional, run.AssetVerified, run.AssetStored, run.AssetLost} {
		n := s.queue.Assets[state]
		switch state {
		case run.AssetWaiting:
			n -= flying
		case run.AssetDownloading:
			n = flying
		}
		all = append(all, sample{float64(n), []string{string(state)}})
	}
	return all
}
