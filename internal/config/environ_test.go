package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCase_E14_MistypedVariablesAreNamedWithWhatWasMeant(t *testing.T) {
	const none = "is not a variable that assetd knows and has no effect"
	for line, want := range map[string]string{
		"ASSETD_API_RAET=plantedsecret":        none + "; did you mean ASSETD_API_RATE?",
		"ASSETD_APIKEY=plantedsecret":          none + "; did you mean ASSETD_API_KEY?",
		"ASSETD_KEY_FILE=plantedsecret":        none + "; did you mean ASSETD_API_KEY_FILE?",
		"ASSETD_CONFIG_=plantedsecret":         none + "; did you mean ASSETD_CONFIG?",
		"ASSETD_CONF=plantedsecret":            none + "; did you mean ASSETD_CONFIG?",
		"ASSETD_DATADIR=plantedsecret":         none + "; did you mean ASSETD_DATA_DIR?",
		"ASSETD__STORAGE_DIR=plantedsecret":    none + "; did you mean ASSETD_STORAGE_DIR?",
		"ASSETD_storage_dir=plantedsecret":     none + "; did you mean ASSETD_STORAGE_DIR?",
		"assetd_storage_dir=plantedsecret":     none + "; did you mean ASSETD_STORAGE_DIR?",
		"ASSET_API_KEY_FILE=plantedsecret":     none + "; did you mean ASSETD_API_KEY_FILE?",
		"ASSTED_LOG_LEVEL=plantedsecret":       none + "; did you mean ASSETD_LOG_LEVEL?",
		"MAGNIFIC_APIKEY=plantedsecret":        none + "; did you mean MAGNIFIC_API_KEY?",
		"ASSETD_STATE=plantedsecret":           none + "; did you mean ASSETD_STATE_DIR?", // no hook has set it
		"ASSETD_XYZZY_PLUGH_FOO=plantedsecret": none,
		"ASSETD_=plantedsecret":                none,
		"ASSETD_STORAGE_DIR=/srv":              "",
		"MAGNIFIC_API_KEY=plantedsecret":       "",
		"ASSETS_DIR=/srv":                      "", // another program's
		"STORAGE_DIR=/srv":                     "",
		"HOME=/home/x":                         "",
		"=C:=/":                                "",
	} {
		var wants []string
		if want != "" {
			wants = []string{want}
		}
		var got []string
		for _, w := range UnknownVariables([]string{line}) {
			got = append(got, w.Text)
		}
		if d := cmp.Diff(wants, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

func TestCase_E14_VariablesOfAHookAreNoMistake(t *testing.T) {
	hook := []string{"ASSETD_EVENT=run.stored", "ASSETD_STATE=stored", "ASSETD_LABEL_SHOT=7", "ASSETD_IDEMPOTENCY_KEY=1", "ASSETD_RUN_IDS=x"}
	got := UnknownVariables(hook)
	if len(got) != 1 || got[0].Key != "environment ASSETD_RUN_IDS" {
		t.Errorf("%v, want ASSETD_RUN_IDS alone", got)
	}
}
