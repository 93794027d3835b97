package dropfile

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// pendingEnds are the ends, in lower case, of names that a file has until it is whole:
// those of uploaders (WinSCP, rclone, gsutil, Syncthing, Resilio), browsers and download
// managers, and those of editors' swap, backup and lock files.
var pendingEnds = []string{
	"~", ".tmp", ".temp", ".part", ".partial", ".filepart", "_.gstmp", ".gstmp",
	".!sync", ".rslspart", ".incomplete", ".unfinished", ".inprogress", ".uploading", ".upload",
	".crdownload", ".download", ".opdownload", ".fdmdownload", ".gdownload", ".driveupload", ".drivedownload",
	".aria2", ".aria2__temp", ".ytdl", ".!ut", ".ut!", ".!qb", ".!bt", ".bc!", ".az!", ".jc!", ".td", ".xltd",
	".swp", ".swo", ".swx", ".lock", ".lck",
}

// pendingExts are the ends of extensions that say the same, whoever wrote the file:
// .wkdownload (WebKit), .dtapart (DownThemAll), .crswap (Chrome), .dctmp.
var pendingExts = []string{
	"download", "downloading", "upload", "uploading", "copying", "writing", "transferring", "receiving",
	"part", "partial", "temp", "tmp", "swap", "swp",
}

// Pending reports whether a file of this name counts as not yet there, in any case of
// its letters: its writer will rename it.
func Pending(name string) bool {
	if strings.HasPrefix(name, ".") || len(name) > 1 && name[0] == '#' && name[len(name)-1] == '#' { // the latter: Emacs
		return true
	}
	name = strings.ToLower(name)
	for _, end := range pendingEnds {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	ext := filepath.Ext(name)
	return len(ext) > 1 && len(ext) < len(name) && slices.ContainsFunc(pendingExts, func(end string) bool { return strings.HasSuffix(ext, end) })
}

// Foreign reports whether a file of this name is one that a file manager, an operating
// system or an office program leaves wherever it has been, in any case of its letters.
// It holds no run IDs and is none of its user's doing.
func Foreign(name string) bool {
	switch name = strings.ToLower(name); name {
	case "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "folder.desktop", // Windows
		".ds_store", ".apdisk", ".localized", ".volumeicon.icns", "icon\r", // macOS
		".directory",                                          // KDE
		"@eadir", "synoeastream", "synofile_thumb", "@tmp.db": // Synology
		return true
	}
	return strings.HasPrefix(name, "~$") || strings.HasPrefix(name, "._") || // Office, AppleDouble
		strings.HasPrefix(name, ".~lock.") || // LibreOffice
		strings.HasSuffix(name, "@synoeastream") || strings.HasSuffix(name, "@synoresource")
}

// written is the form of the names that Write gives.
var written = regexp.MustCompile(`^add-\d{8}T\d{6}Z-[a-z2-7]{16}\.(txt|jsonl)$`)

// Written reports whether a file of this name is one of Write's: whole from the moment
// it has the name.
func Written(name string) bool { return written.MatchString(name) }

// columns are the names, in one spelling, under which tables have run IDs.
var columns = map[string]bool{
	"id": true, "ids": true, "run": true, "runid": true, "runids": true, "runidentifier": true, "identifier": true,
	"workflowrun": true, "workflowrunid": true, "workflowrunidentifier": true,
}

// isColumn reports whether a field of a table's first line names the column of run IDs.
func isColumn(field string) bool {
	field = strings.ToLower(strings.Trim(field, "\"' \t\r"))
	return columns[strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(field)]
}

// byNameHint is how an empty file is made one that says something.
func byNameHint(name string) string {
	if ext := filepath.Ext(name); ext != "" {
		stem := strings.TrimSuffix(name, ext)
		hint := "empty: write run IDs into it, one a line"
		if run.ValidID(stem) {
			hint += "; or, where the name is the run ID, give it no extension (touch " + Quote(stem) + ")"
		}
		return hint
	}
	return "empty, and its name is no run ID (" + whyNot(name) + "): write run IDs into it, one a line, or name it as a run ID (touch omps2OH829)"
}
