package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assetd/assetd/internal/run"
)

func settled(id run.ID) run.Notice {
	return run.Notice{Kind: run.RunStored, Run: id, State: run.StoredRun}
}

func TestWhatHappensIsToldOnceAndIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newBox(), takes)
		defer d.stop()
		synctest.Wait()
		d.tell(settled("aaaa"), settled("bbbb"))
		time.Sleep(time.Minute)
		d.tell(settled("cccc"))
		synctest.Wait()
		got := d.hook.taken()
		slices.Sort(got)
		if fmt.Sprint(got) != "[aaaa run.stored bbbb run.stored cccc run.stored]" || d.box.left() != 0 {
			t.Errorf("%q, %d left", got, d.box.left())
		}
	})
}

// The first notice of a run fails three times; what comes after it of the same run
// waits, and the other runs do not, nor what is about many runs.
func TestARunIsToldInOrderAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 3
		d := open(t, newBox(), func(_ context.Context, m message) error {
			if m.Kind == run.LostAsset && failures > 0 {
				failures--
				return errors.New("exit status 1")
			}
			return nil
		})
		defer d.stop()
		start := time.Now()
		lost := run.Notice{Kind: run.LostAsset, Run: "aaaa", Asset: run.Key{Run: "aaaa", Kind: run.Images, ID: "x"}}
		risk := run.Notice{Kind: run.AssetsAtRisk, Runs: []run.ID{"zzzz", "aaaa"}}
		d.tell(lost, settled("aaaa"), settled("bbbb"), risk, settled("cccc"), settled("zzzz"))
		time.Sleep(500 * time.Millisecond)
		got := d.hook.taken()
		slices.Sort(got)
		if fmt.Sprint(got) != "[ asset.at_risk bbbb run.stored cccc run.stored zzzz run.stored]" {
			t.Errorf("at once: %q", got)
		}
		time.Sleep(time.Minute)
		got = d.hook.taken()[4:]
		if fmt.Sprint(got) != "[aaaa asset.lost aaaa run.stored]" {
			t.Errorf("then: %q", got)
		}
		var waits []time.Duration
		for _, try := range d.hook.all() {
			if try.Kind == run.LostAsset {
				waits = append(waits, try.at.Sub(start))
			}
		}
		if fmt.Sprint(waits) != "[0s 1s 3s 7s]" {
			t.Errorf("tried at %v", waits)
		}
	})
}

// A hook that takes nothing while a hundred thousand notices wait is tried at the
// distances of one that is probed, and little of what waits is in memory.
func TestAHookThatIsDownIsProbedHoweverMuchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		var many []run.Notice
		for i := range 100_000 {
			many = append(many, settled(run.ID(fmt.Sprintf("run-%06d", i))))
		}
		b.put(run.URLHook, many...)
		d := open(t, b, refuses)
		defer d.stop()
		time.Sleep(time.Hour)
		tries := len(d.hook.all())
		if tries < int(time.Hour/maxProbeDelay) || tries > int(time.Hour/maxProbeDelay)+2*parallel+5 {
			t.Errorf("%d tries in an hour", tries)
		}
		if looks, most := b.looked(); looks > 2 || most > mostRead {
			t.Errorf("%d looks into the outbox, %d notices at a time", looks, most)
		}
		seen := map[string]bool{}
		for _, try := range d.hook.all() {
			if seen[try.key] {
				t.Errorf("%s was probed with twice", try.key)
			}
			seen[try.key] = true
		}
		d.hook.does(takes)
		time.Sleep(maxProbeDelay) // one wait at most
		if b.left() != 0 || d.hook.up > parallel || len(d.told.of(Back)) != 1 {
			t.Errorf("%d left, %d at a time, %d times back", b.left(), d.hook.up, len(d.told.of(Back)))
		}
	})
}

// Two notices that a hook cannot take are no reason to hold back the others.
func TestSomeNoticesThatAlwaysFailHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newBox(), func(ctx context.Context, m message) error {
			if m.Run == "bad1" || m.Run == "bad2" {
				return errors.New("HTTP 400")
			}
			return nil
		})
		defer d.stop()
		d.tell(settled("bad1"), settled("bad2"))
		for i := range 100 {
			time.Sleep(30 * time.Second)
			d.tell(settled(run.ID(fmt.Sprintf("good-%d", i))))
			synctest.Wait()
			if n := len(d.hook.taken()); n != i+1 {
				t.Fatalf("%d of %d were told at once", n, i+1)
			}
		}
		if d.box.left() != 2 {
			t.Errorf("%d left", d.box.left())
		}
	})
}

func TestAHangingHookHoldsUpOnlyItsOwnRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newBox(), func(ctx context.Context, m message) error {
			if m.Run == "hang" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		defer d.stop()
		d.tell(settled("hang"), settled("hang"))
		for i := range 20 {
			d.tell(settled(run.ID(fmt.Sprintf("good-%d", i))))
		}
		time.Sleep(time.Second)
		if n := len(d.hook.taken()); n != 20 {
			t.Errorf("%d told", n)
		}
		d.stop() // kills it, and it is no failure
		if len(d.told.of(Failed)) != 0 || d.box.left() != 2 {
			t.Errorf("%v, %d left", d.told.of(Failed), d.box.left())
		}
	})
}

func TestWhatIsNotTakenIsDroppedAfterGiveUpAfterAndSaidByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newBox(), func(_ context.Context, m message) error {
			if m.Run == "bad1" {
				return errors.New("HTTP 400")
			}
			return nil
		})
		defer d.stop()
		d.tell(settled("bad1"), settled("bad1"), settled("good"))
		time.Sleep(72*time.Hour - time.Minute)
		if d.box.left() != 2 || len(d.told.of(GivenUp)) != 0 {
			t.Errorf("before: %d left, given up %v", d.box.left(), d.told.of(GivenUp))
		}
		time.Sleep(2*maxDelay + time.Minute)
		gone := d.told.of(GivenUp)
		if d.box.left() != 0 || len(gone) != 2 {
			t.Fatalf("after: %d left, given up %v", d.box.left(), gone)
		}
		if gone[0].Run != "bad1" || !strings.Contains(gone[0].Note, "run.stored") || !strings.Contains(gone[0].Note, "0123456789abcdef-1-") {
			t.Errorf("%+v", gone[0])
		}
	})
}

// All that is too old goes with the first failure of a hook that is down, tried or
// not, and what is not stays.
func TestAHookThatIsDownForTooLongLosesAllThatIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		for i := range 3 * mostRead {
			n := settled(run.ID(fmt.Sprintf("old-%d", i)))
			n.At = time.Now().Add(-73 * time.Hour)
			b.put(run.URLHook, n)
		}
		b.put(run.URLHook, settled("young"))
		d := open(t, b, refuses)
		defer d.stop()
		time.Sleep(time.Minute)
		if b.left() != 1 || len(d.told.of(GivenUp)) != 3*mostRead {
			t.Errorf("%d left, %d given up", b.left(), len(d.told.of(GivenUp)))
		}
	})
}

func TestAfterARestartItIsToldAgainUnderTheSameKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		one := open(t, b, refuses)
		one.tell(settled("aaaa"))
		time.Sleep(time.Minute)
		one.stop()
		two := open(t, b, takes)
		defer two.stop()
		synctest.Wait()
		keys := map[string]bool{}
		for _, try := range append(one.hook.all(), two.hook.all()...) {
			keys[try.key] = true
		}
		if len(keys) != 1 || len(two.hook.taken()) != 1 || len(one.hook.all()) < 5 {
			t.Errorf("keys %v", keys)
		}
	})
}

// What the hook took and the queue could not note is noted later, and not told
// again.
func TestAFullQueueDoesNotHaveAnybodyToldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		b.full = 3
		d := open(t, b, takes)
		defer d.stop()
		d.tell(settled("aaaa"))
		time.Sleep(time.Minute)
		if len(d.hook.all()) != 1 || b.left() != 0 || b.full != 0 {
			t.Errorf("told %d times, %d left", len(d.hook.all()), b.left())
		}
	})
}

// The notice waits for as long as the receiver asks; the hook is probed with another one
// after at most maxProbeDelay, since it may have asked because of that notice alone.
func TestCase_A22_RetryAfterDelaysItsNoticeInFullAndTheHookUntilAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := open(t, newBox(), func(_ context.Context, m message) error {
			if m.Run == "aaaa" && time.Since(start) < 10*time.Minute {
				return &refusal{wait: 10 * time.Minute, err: errors.New("HTTP 429")}
			}
			return nil
		})
		defer d.stop()
		d.tell(settled("aaaa"))
		time.Sleep(time.Second)
		d.tell(settled("bbbb"))
		time.Sleep(10 * time.Minute)
		tries := d.hook.all()
		if len(tries) != 3 || tries[1].Run != "bbbb" || tries[1].at.Sub(start) != maxProbeDelay || tries[2].at.Sub(start) != 10*time.Minute || d.box.left() != 0 {
			t.Errorf("%+v", tries)
		}
	})
}

func TestAnEndpointThatIsGoneIsLeftAloneUntilItIsSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, newBox(), func(context.Context, message) error {
			return &refusal{gone: true, err: errors.New("HTTP 410")}
		})
		defer d.stop()
		d.tell(settled("aaaa"))
		time.Sleep(24 * time.Hour)
		d.tell(settled("bbbb"))
		time.Sleep(24 * time.Hour)
		if len(d.hook.all()) != 1 || len(d.told.of(Gone)) != 1 {
			t.Errorf("%d tries, told %d times", len(d.hook.all()), len(d.told.of(Gone)))
		}
		time.Sleep(26 * time.Hour) // the first is too old now, the second is not
		if d.box.left() != 1 || len(d.told.of(GivenUp)) != 1 {
			t.Errorf("%d left", d.box.left())
		}
		d.hook.does(takes)
		d.configure(settings{sender: d.hook, giveUpAfter: 72 * time.Hour})
		synctest.Wait()
		if d.box.left() != 0 {
			t.Errorf("%d left", d.box.left())
		}
	})
}

func TestWhatWaitsForAHookThatIsNotSetAnyMoreIsDroppedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		d := open(t, b, refuses)
		defer d.stop()
		b.put(run.AllHooks, settled("both"))
		d.tell(settled("aaaa"), settled("bbbb"))
		time.Sleep(time.Second)
		d.configure(settings{})
		synctest.Wait()
		if told := d.told.of(Forgotten); len(told) != 1 || told[0].Count != 3 || told[0].Note != "hook.url" {
			t.Errorf("%+v", told)
		}
		if b.left() != 1 || b.to[1] != run.CommandHook {
			t.Errorf("%d left, the first for %v", b.left(), b.to[1])
		}
		tries := len(d.hook.all())
		d.tell(settled("cccc"))
		d.configure(settings{sender: d.hook, giveUpAfter: time.Hour})
		d.tell(settled("dddd"))
		synctest.Wait()
		if got := d.hook.all()[tries:]; len(got) == 0 || slices.ContainsFunc(got, func(t try) bool { return t.Run == "aaaa" }) {
			t.Errorf("told after it was set anew: %v", got)
		}
	})
}

func TestAPanicOfAHookIsAFailureOfOneTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		d := open(t, newBox(), func(context.Context, message) error {
			if first {
				first = false
				panic("broken")
			}
			return nil
		})
		defer d.stop()
		d.tell(settled("aaaa"))
		time.Sleep(time.Minute)
		if len(d.hook.taken()) != 1 || len(d.told.of(run.StageRecovered)) != 1 {
			t.Errorf("%v", d.told.all)
		}
	})
}

func TestAQueueThatCannotGoOnEndsTheNotifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		b.full = 1
		n, err := New(Config{Command: []string{"/bin/true"}, GiveUpAfter: time.Hour}, deps(b, &events{}))
		if err != nil {
			t.Fatal(err)
		}
		n.targets[0].Broken = func(err error) bool { return err != nil }
		n.targets[0].configure(settings{sender: &hook{do: takes}, giveUpAfter: time.Hour})
		b.put(run.CommandHook, settled("aaaa"))
		if err := n.Run(context.Background(), context.Background()); !errors.Is(err, errFull) {
			t.Errorf("%v", err)
		}
	})
}
