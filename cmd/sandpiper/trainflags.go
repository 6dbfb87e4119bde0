package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sandpiper-edge/sandpiper/controlplane/api"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/kernel/bptt"
)

// trainFlags are the flags of `sandpiper train`, by topic, and those whose zero
// is not their default.
type trainFlags struct {
	groups      []*pflag.FlagSet
	restoreBest bool
	eachFile    bool
	gap         int
	int8Bound   float64
}

// newTrainFlags returns flags that write to o and data.
func newTrainFlags(o *api.TrainOptions, data *dataArgs) *trainFlags {
	t := &trainFlags{}
	t.addData(o, data)
	t.addSplit(o, data)
	t.addTasks(o)
	t.addCleaning(o)
	t.addPreparation(o)
	t.addNetwork(o)
	t.addOptimizer(o)
	t.addSchedule(o)
	t.addEpochs(o)
	f := t.group("Model card")
	f.StringVar(&o.Use.Intended, "intended-use", "", "what the model is for")
	f.StringVar(&o.Use.Limits, "limits", "", "what it is not for, and what is known to go wrong")
	f.StringVar(&o.Use.Contact, "contact", "", "whom to ask")
	f = t.group("int8")
	f.Float64Var(&t.int8Bound, "int8-bound", 0, "how much worse the int8 model's figure may be, as a fraction of float32's (default 0.01, or 0.1 rows of rul, or 0.001 of a forecast's variance)")
	f.BoolVar(&o.Force, "force", false, "add the version even if int8 is worse than that; its lineage then says who did")
	return t
}

// group starts a topic.
func (t *trainFlags) group(name string) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SortFlags = false
	t.groups = append(t.groups, f)
	return f
}

func (t *trainFlags) addData(o *api.TrainOptions, data *dataArgs) {
	f := t.group("Data")
	addDataFlag(f, &data.data)
	f.StringVar(&o.Task, "task", "", "what to learn: forecast, rul (remaining useful life), classify or anomaly")
	f.StringVar(&o.Group, "group", "", "column whose values windows never cross, such as the machine's id (default: each of several files)")
	f.StringVar(&o.Time, "time", "", "column that orders the rows of a group, or several: date,time or year,month,day,hour")
	f.StringSliceVar(&o.Targets, "target", nil, "columns to predict; of anomaly the features to watch (default all)")
	f.StringSliceVar(&o.Features, "features", nil, "columns to read (default: every numeric one)")
	f.StringVar(&o.Weight, "weight", "", "column that says how much a window counts in training, by its last row: 0 or more")
	f.Float64Var(&o.RULCap, "rul-cap", 0, "largest remaining life that is learned")
	f.IntVar(&o.Window, "window", 0, "rows of a window (default 30 for rul, 96 for forecast, 5 for anomaly, the longest series for classify)")
	f.IntVar(&o.Stride, "stride", 0, "rows from one training window to the next (default 1; of classify it makes windows of series that have one label each)")
	f.IntVar(&o.Horizon, "horizon", 0, "of forecast: rows ahead (default 24)")
	f.BoolVar(&o.Pad, "pad", false, "of rul: repeat the first row in windows of short groups, and in training of every group's beginning")
	f.BoolVar(&o.Skip, "skip", false, "of forecast: add a linear map from each target's own window to its outputs; the network learns what it leaves")
	f.IntVar(&o.Season, "season", 0, "rows of one season, for the baseline that repeats it")
}

func (t *trainFlags) addSplit(o *api.TrainOptions, data *dataArgs) {
	f := t.group("Rows that are held out; what would give them away is refused")
	f.StringVar(&o.Split, "split", "", "training, validation and test part: fractions, or counts such as 8640,2880,2880 or 400,100,rest (default of forecast 0.7,0.1,0.2 with a gap)")
	f.StringVar(&o.SplitBy, "split-by", "", "time: the rows of each group; group: whole groups, chosen by the seed (default of rul group, of others and with --split time)")
	f.IntVar(&t.gap, "gap", 0, "`rows` before validation and test that a split by time leaves out (default: the horizon; none with --split; where the target stands in a window's last row as many as keep windows apart)")
	f.Float64Var(&o.Validation, "validation", 0, "instead of --split: fraction of whole groups held out (default of rul 0.15; -1: none)")
	data.addHeldOut(f)
	f.BoolVar(&o.Data.SameNames, "same-names", false, "groups of one name in --data and in files held out are different machines")
}

func (t *trainFlags) addCleaning(o *api.TrainOptions) {
	addReadFlags(t.group("How the files are written (default: detected)"), &o.Data)
	f := t.group("Cleaning, which the report counts")
	addCleanFlags(f, &o.Data)
	f.Float64Var(&o.Outliers, "outliers", 0, "robust `deviations` from the median beyond which training values are taken for missing ones, such as 6 (default: none)")
	f.BoolVar(&o.DropConstant, "drop-constant", false, "leave out features that are constant in the training rows")
}

func (t *trainFlags) addNetwork(o *api.TrainOptions) {
	f := t.group("Network and loss")
	f.StringVar(&o.State, "state", "", oneOf(train.States)+"; stream carries the state on from row to row")
	f.StringVar(&o.From, "from", "", "`REF` of the version to go on from: its columns, window and layers are the defaults, its scaling and pipeline stay")
	f.BoolVar(&o.Unfed, "no-pipeline", false, "with --from: without the pipeline of that version")
	f.BoolVar(&o.HeadOnly, "head-only", false, "with --from: the last layer alone learns, and is all that devices fetch")
	f.StringVar(&o.Layer, "layer", "", "of every recurrent layer: "+oneOf(train.Layers))
	f.IntSliceVar(&o.Units, "units", nil, "units of each recurrent layer (default 128)")
	f.Float64SliceVar(&o.Dropout, "dropout", nil, "`parts` of the outputs of each recurrent layer that are dropped in training, or one for all layers")
	f.Lookup("dropout").DefValue = ""
	f.Float64Var(&o.Noise, "noise", 0, "standard deviation of noise added to the scaled inputs in training")
	f.StringVar(&o.Loss, "loss", "", oneOf(train.Losses)+"; of classify "+oneOf(train.ClassLosses))
	f.Float64Var(&o.HuberDelta, "huber-delta", 0, "of huber: error from which on it is linear (default 1)")
	f.Float64Var(&o.L2, "l2", 0, "penalty on the squares of the kernels")
	f.Float64Var(&o.RecurrentL2, "recurrent-l2", 0, "penalty on the squares of the recurrent kernels")
	f.Float64Var(&o.BiasL2, "bias-l2", 0, "penalty on the squares of the biases")
}

func (t *trainFlags) addOptimizer(o *api.TrainOptions) {
	f := t.group("Optimizer")
	f.StringVar(&o.Optimizer, "optimizer", "", oneOf(bptt.Optimizers))
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate (default 0.001, of sgd 0.01)")
	f.Float64Var(&o.Beta1, "beta1", 0, "of adam and adamw (default 0.9)")
	f.Float64Var(&o.Beta2, "beta2", 0, "of adam and adamw (default 0.999)")
	f.Float64Var(&o.Epsilon, "epsilon", 0, "of adam, adamw and rmsprop (default 1e-7)")
	f.Float64Var(&o.Momentum, "momentum", 0, "of sgd and rmsprop")
	f.BoolVar(&o.Nesterov, "nesterov", false, "of sgd: look ahead by the momentum")
	f.Float64Var(&o.Rho, "rho", 0, "of rmsprop (default 0.9)")
	f.BoolVar(&o.Centered, "centered", false, "of rmsprop: divide by the deviation of the gradient")
	f.Float64Var(&o.WeightDecay, "weight-decay", 0, "part of each weight, times the learning rate, that an update takes away (default of adamw 0.004)")
	f.BoolVar(&o.UseEMA, "use-ema", false, "end with an exponential moving average of the weights, which is what is validated too")
	f.Float64Var(&o.EMAMomentum, "ema-momentum", 0, "of use-ema: part of the average that an update keeps (default 0.99)")
	f.IntVar(&o.EMAOverwriteFrequency, "ema-overwrite-frequency", 0, "of use-ema: updates after which the weights become the average; 0: never")
	f.Float32Var(&o.ClipValue, "clipvalue", 0, "bound on each gradient's absolute value")
	f.Float32Var(&o.ClipNorm, "clipnorm", 0, "bound on the norm of each tensor's gradient")
	f.Float32Var(&o.GlobalClipNorm, "global-clipnorm", 0, "bound on the norm of all gradients together (default 1 without another clip; negative: none)")
}

func (t *trainFlags) addSchedule(o *api.TrainOptions) {
	f := t.group("Learning rate over time, in updates (batches); or on a plateau, in epochs")
	f.StringVar(&o.Schedule, "schedule", "", strings.Join(bptt.Schedules, ", "))
	f.IntSliceVar(&o.Boundaries, "boundaries", nil, "of step: last `updates` of each rate but the last")
	f.Float64SliceVar(&o.Values, "values", nil, "of step: the `rates`, one more than boundaries")
	f.Lookup("values").DefValue = "" // pflag does not know that [] is nothing
	f.IntVar(&o.DecaySteps, "decay-steps", 0, "of exponential and cosine: updates of one decay")
	f.Float64Var(&o.DecayRate, "decay-rate", 0, "of exponential: factor of one decay")
	f.BoolVar(&o.Staircase, "staircase", false, "of exponential: decay all at once")
	f.Float64Var(&o.Alpha, "alpha", 0, "of cosine: last rate as a part of the first")
	f.Float64Var(&o.WarmupTarget, "warmup-target", 0, "of cosine: rate after the warm-up, which begins at --lr")
	f.IntVar(&o.WarmupSteps, "warmup-steps", 0, "of cosine: updates of the warm-up")
	f.IntVar(&o.ReduceLRPatience, "reduce-lr-patience", 0, "epochs without a lower loss before the rate is reduced; 0: never")
	f.Float64Var(&o.ReduceLRFactor, "reduce-lr-factor", 0, "new rate as a part of the old one (default 0.1)")
	f.Float64Var(&o.ReduceLRMinDelta, "reduce-lr-min-delta", 0, "smallest decrease that counts (default 1e-4)")
	f.IntVar(&o.ReduceLRCooldown, "reduce-lr-cooldown", 0, "epochs after a reduction that do not count")
	f.Float64Var(&o.ReduceLRMinLR, "reduce-lr-min-lr", 0, "smallest rate")
}

func (t *trainFlags) addEpochs(o *api.TrainOptions) {
	f := t.group("Epochs")
	f.IntVar(&o.Epochs, "epochs", 0, "passes over the training windows (default 20)")
	f.IntVar(&o.Batch, "batch", 0, "windows of a mini-batch (default 32)")
	f.Uint64Var(&o.Seed, "seed", 0, "the same seed gives the same model")
	f.IntVar(&o.Patience, "patience", 0, "epochs without a lower loss before training stops; 0: never")
	f.Float64Var(&o.MinDelta, "min-delta", 0, "smallest decrease that counts")
	f.IntVar(&o.StartFromEpoch, "start-from-epoch", 0, "epochs that are not looked at first")
	f.StringVar(&o.Monitor, "monitor", "", "whose decrease counts: val_loss, or loss (default val_loss where rows are held out)")
	f.BoolVar(&t.restoreBest, "restore-best", true, "end with the weights of the epoch with the lowest loss, not of the last (default where rows are held out)")
	f.Lookup("restore-best").DefValue = "" // not simply true
}

// setChanged sets the options whose zero means something, where they are given.
func (t *trainFlags) setChanged(o *api.TrainOptions) {
	for _, f := range t.groups {
		if f.Changed("int8-bound") {
			o.Int8Bound = &t.int8Bound
		}
		if f.Changed("gap") {
			o.Gap = &t.gap
		}
		if f.Changed("restore-best") {
			o.RestoreBest = &t.restoreBest
		}
	}
}

// zeroIsDefault are the flags whose 0 the options take for one that is not
// given: another number.
var zeroIsDefault = []string{
	"window", "stride", "horizon", "validation", "huber-delta", "lr", "beta1", "beta2", "epsilon", "rho", "ema-momentum", "global-clipnorm",
	"reduce-lr-factor", "reduce-lr-min-delta", "epochs", "batch", "smooth", "threshold-quantile", "threshold-factor",
}

// checkNumbers refuses numbers among the flags given that o cannot hold, or
// that nothing would use.
func checkNumbers(flags *pflag.FlagSet, o *api.TrainOptions) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		v, parsed := strconv.ParseFloat(f.Value.String(), 64)
		switch {
		case err != nil || parsed != nil || f.Value.Type() == "string":
		case math.IsNaN(v) || math.IsInf(v, 0):
			err = usagef("--%s %v: want a finite number", f.Name, v)
		case f.Name == "lr" && o.Schedule == bptt.StepDecay:
			err = usagef("--lr has no use with --schedule %s, whose rates are --values", o.Schedule)
		case v != 0 || f.Name == "lr" && o.WarmupTarget != 0: // a warm-up may begin at 0
		case slices.Contains(zeroIsDefault, f.Name):
			err = usagef("--%s 0 stands for its default: leave it out, or give another value: %s", f.Name, f.Usage)
		case f.Name == "weight-decay" && o.Optimizer == bptt.AdamW:
			err = usagef("--weight-decay 0 stands for its default; %s without decay is --optimizer %s", bptt.AdamW, bptt.Adam)
		}
	})
	return err
}

// oneOf lists names, the first of which is the default.
func oneOf(names []string) string {
	return strings.Join(names, ", ") + " (default " + names[0] + ")"
}

// helpWidth is where help is broken, in columns.
const helpWidth = 100

// groupFlags adds sets of flags to cmd, whose help then shows them apart, under
// their names.
func groupFlags(cmd *cobra.Command, groups ...*pflag.FlagSet) {
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g)
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		w := cmd.OutOrStderr()
		fmt.Fprintf(w, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
		rest := pflag.NewFlagSet("Output", pflag.ContinueOnError)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			for _, g := range groups {
				if g.Lookup(f.Name) != nil {
					return
				}
			}
			rest.AddFlag(f)
		})
		for _, g := range append(groups, rest) {
			fmt.Fprintf(w, "\n%s:\n%s", g.Name(), g.FlagUsagesWrapped(helpWidth))
		}
		fmt.Fprintf(w, "\nOf every command:\n%s", cmd.InheritedFlags().FlagUsagesWrapped(helpWidth))
		return nil
	})
}
