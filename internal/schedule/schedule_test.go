package schedule

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSchedule_JobsNeverOverlapAndSurviveAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, runs, panics atomic.Int32
		s, err := Start([]Job{
			{"slow", time.Second, func(ctx context.Context) {
				if running.Add(1) > 1 {
					t.Error("overlap")
				}
				select {
				case <-time.After(2500 * time.Millisecond):
				case <-ctx.Done():
				}
				running.Add(-1)
				runs.Add(1)
			}},
			{"panics", time.Second, func(context.Context) { panics.Add(1); panic("oops") }},
		}, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := runs.Load(); n < 15 || n > 18 {
			t.Errorf("a job of 2.5 s every second after the last ran %d times in a minute", n)
		}
		if n := panics.Load(); n < 50 {
			t.Errorf("a panicking job ran %d times in a minute", n)
		}
	})
}
