package quality

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Words are what a text about a verdict names.
type Words struct {
	InPlace, Candidate string // versions, v7 and v8
	Stage              string // canary, shadow, 10 %
	Label              string // key of the groups; "" for none
	Outcome            string // what became of the devices: one sentence; "" for none
	// NextDevices are those of the next stage, at whose limit NextPass it passes;
	// 0: there is none.
	NextDevices int
	NextPass    float64
}

// Text is the verdict for people, in a few sentences.
func (v Verdict) Text(w Words) string {
	var b strings.Builder
	switch v.Decision {
	case Stop:
		fmt.Fprintf(&b, "STOPPED %s after %s (%s). ", at(w.Stage), short(v.elapsed()), v.Reason)
		v.stopText(&b, w)
		if v.Reason != ReasonSilence && v.Silent > 0 {
			fmt.Fprintf(&b, " %s.", v.silence())
		}
	case Pass:
		fmt.Fprintf(&b, "PASSED %s after %s. ", the(w.Stage), short(v.elapsed()))
		v.figures(&b, w)
		if v.Reason == ReasonGuard {
			b.WriteString("; nothing was found that stops it.")
		} else {
			fmt.Fprintf(&b, "; limit %s.", percent(v.Margins.Pass))
		}
		if w.NextDevices > 0 {
			fmt.Fprintf(&b, " Next: %s devices", thousands(w.NextDevices))
			if w.NextPass > 0 {
				fmt.Fprintf(&b, ", limit %s", percent(w.NextPass))
			}
			b.WriteByte('.')
		}
	case Inconclusive:
		fmt.Fprintf(&b, "INCONCLUSIVE %s after %s (%s): ", at(w.Stage), short(v.elapsed()), v.Reason)
		v.waitText(&b, w)
	default:
		fmt.Fprintf(&b, "WAITING, %s: ", short(v.elapsed()))
		v.waitText(&b, w)
		if v.Expected > 0 {
			left := time.Duration((v.Expected - v.Elapsed) * float64(time.Second))
			fmt.Fprintf(&b, " At this pace decided in about %s.", short(left))
		}
	}
	if w.Outcome != "" {
		b.WriteByte(' ')
		b.WriteString(w.Outcome)
	}
	return b.String()
}

func (v Verdict) elapsed() time.Duration { return time.Duration(v.Elapsed * float64(time.Second)) }

func (v Verdict) stopText(b *strings.Builder, w Words) {
	switch v.Reason {
	case ReasonSilence:
		fmt.Fprintf(b, "%s: by chance that happens %s times in a million.", v.silence(), strconv.FormatFloat(v.SilentPvalue*1e6, 'g', 2, 64))
	case ReasonGroup:
		g := v.Groups[0]
		fmt.Fprintf(b, "Overall %s, but %s=%s (%s devices) is %s (at least %s). Exclude %[2]s=%[3]s or retrain.",
			signed(v.Ratio), w.Label, g.Value, thousands(g.N), signed(g.Ratio), signedWhole(g.Lower))
	case ReasonMinority:
		fmt.Fprintf(b, "Overall %s, but %s devices are more than %s above that and %s as far below: %s.",
			signed(v.Ratio), thousands(v.MinorityAbove), percent(apart), thousands(v.MinorityBelow), list(v.Minority, 5))
	default:
		on := "on the same inputs of " + thousands(v.N) + " devices"
		if v.Untouched > 0 { // there are no pairs
			on = fmt.Sprintf("before it on %s devices, less what changed on %s others", thousands(v.N), thousands(v.Untouched))
		}
		fmt.Fprintf(b, "%s's error is %s above %s's %s (%s to %s, valid at every look); limit %s.",
			w.Candidate, unsigned(v.Ratio), w.InPlace, on, whole(v.Lower), whole(v.Upper), percent(v.Margins.Stop))
	}
}

func (v Verdict) waitText(b *strings.Builder, w Words) {
	switch v.Reason {
	case ReasonFew:
		fmt.Fprintf(b, "%s devices are too few to decide, %d are needed; a person promotes.", thousands(v.Assigned), MinJudged)
	case ReasonTruth:
		b.WriteString("no truth has come for any forecast, so no error is known.")
	case ReasonUntouched:
		fmt.Fprintf(b, "%s devices without the version tell their errors, and %s are needed.", thousands(v.Untouched), thousands(MinUntouched))
	case ReasonDevices:
		fmt.Fprintf(b, "%s of %s devices have enough pairs.", thousands(v.N), thousands(v.Assigned))
	case ReasonMinutes:
		b.WriteString("the stage has just begun.")
	default:
		v.figures(b, w)
		b.WriteByte('.')
	}
}

func (v Verdict) figures(b *strings.Builder, w Words) {
	if v.Decision == Pass {
		fmt.Fprintf(b, "%s against %s: ", w.Candidate, w.InPlace)
	}
	fmt.Fprintf(b, "%s (%s to %s)", signed(v.Ratio), signedWhole(v.Lower), signedWhole(v.Upper))
}

func (v Verdict) silence() string {
	word := "elsewhere"
	if float64(v.Silent) <= (v.SilentShare+silentMargin)*float64(v.Assigned) {
		return fmt.Sprintf("%s of %s silent, as %s (%s)", thousands(v.Silent), thousands(v.Assigned), word, percent(1+v.SilentShare))
	}
	return fmt.Sprintf("%s of %s silent, %s %s", thousands(v.Silent), thousands(v.Assigned), word, percent(1+v.SilentShare))
}

func at(stage string) string {
	switch {
	case stage == "shadow":
		return "in shadow"
	case strings.HasSuffix(stage, "%"):
		return "at " + stage
	}
	return "at the " + stage
}

func the(stage string) string {
	if strings.HasSuffix(stage, "%") {
		return stage
	}
	return "the " + stage
}

const minus = "−"

// signed writes how far a ratio is from 1, +0.4 %, with a decimal below 10 %.
func signed(ratio float64) string { return sign(ratio) + unsigned(ratio) }

func unsigned(ratio float64) string {
	x := math.Abs(ratio-1) * 100
	if x < 9.95 {
		return strconv.FormatFloat(x, 'f', 1, 64) + " %"
	}
	return large(x) + " %"
}

// whole writes how far a ratio is from 1 without decimals, with a sign only
// below 1; signedWhole with one always.
func whole(ratio float64) string {
	if ratio < 1 {
		return signedWhole(ratio)
	}
	return large((ratio-1)*100) + " %"
}

func signedWhole(ratio float64) string {
	s := large(math.Abs(ratio-1) * 100)
	if s == "0" {
		return "0 %"
	}
	return sign(ratio) + s + " %"
}

// large writes a percentage that may be beyond reason.
func large(x float64) string {
	if x >= 1e6 {
		return strconv.FormatFloat(x, 'g', 2, 64)
	}
	return strconv.FormatFloat(x, 'f', 0, 64)
}

func sign(ratio float64) string {
	if ratio < 1 {
		return minus
	}
	return "+"
}

// percent writes a margin: 1.03 is 3 %.
func percent(margin float64) string {
	return strconv.FormatFloat(math.Round((margin-1)*1000)/10, 'f', -1, 64) + " %"
}

// short writes a duration in its largest unit.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(math.Round(d.Seconds()))))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(math.Round(d.Minutes())))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(math.Round(d.Hours())))
	}
	return fmt.Sprintf("%d days", int(math.Round(d.Hours()/24)))
}

// thousands writes 12,345.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// list names the first of some devices.
func list(ids []string, most int) string {
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %s more", strings.Join(ids[:most], ", "), thousands(len(ids)-most))
}
