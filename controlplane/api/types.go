package api

import (
	"github.com/sandpiper-edge/sandpiper/controlplane/dataset"
	"github.com/sandpiper-edge/sandpiper/controlplane/fleet"
	"github.com/sandpiper-edge/sandpiper/controlplane/plan"
	"github.com/sandpiper-edge/sandpiper/controlplane/registry"
	"github.com/sandpiper-edge/sandpiper/controlplane/rollout"
	"github.com/sandpiper-edge/sandpiper/controlplane/train"
	"github.com/sandpiper-edge/sandpiper/protocol"
	"github.com/sandpiper-edge/sandpiper/protocol/artifact"
)

// Server describes the control plane that answers.
type Server struct {
	Version   string `json:"version" doc:"Version of the program"`
	Fleet     string `json:"fleet" doc:"The fleet it serves"`
	Broker    string `json:"broker" doc:"URL under which devices reach the broker"`
	Serving   bool   `json:"serving" doc:"Whether it runs the fleet: rollouts and predictions need that"`
	Connected bool   `json:"connected" doc:"Whether it is connected to the broker at the moment"`
}

// A Version is one immutable version of a model.
type Version struct {
	Ref string `json:"ref" doc:"NAME:vN" example:"turbofan:v3"`
	registry.Version
	Lineage Lineage `json:"lineage"`
	Pruned  bool    `json:"pruned,omitempty" doc:"Whether its bytes were removed; in the answer about one version"`
	Schema  *Schema `json:"schema,omitempty" doc:"What the model reads; in the answer about one version"`
	// Transfers are made as they are needed: updates at the start of a rollout.
	Transfers []registry.Transfer `json:"transfers,omitempty" doc:"The ways to get the version, smallest first; in the answer about one version"`
}

// Lineage says where a version comes from.
type Lineage struct {
	Data   string           `json:"data,omitempty" doc:"Digest of the training data"`
	Run    string           `json:"run,omitempty" doc:"Id of the training run"`
	Parent *protocol.Digest `json:"parent,omitempty" doc:"Digest of the version it was trained from"`
	Forced string           `json:"forced,omitempty" doc:"Who added it although its int8 form is worse than its task allows: a user of the operating system, or who holds the admin token"`
}

// A Schema says what a request for a prediction holds.
type Schema struct {
	Features []Column `json:"features" nullable:"false"`
	Targets  []Column `json:"targets" nullable:"false"`
	Window   int      `json:"window" doc:"Rows of one request, which a stream model takes from the zero state"`
	Horizon  int      `json:"horizon" doc:"Steps ahead per target"`
	Stream   bool     `json:"stream" doc:"Whether it keeps its state from one row to the next"`
	Layers   string   `json:"layers" example:"lstm(128) dense(1)"`
	// MinWindow is 0 for a model that takes exactly Window rows.
	MinWindow int                `json:"min_window,omitempty" doc:"Of a classifier of series: least rows of one request, window being the most"`
	Labels    []string           `json:"labels,omitempty" doc:"Classes of a classifier: of each target, or two of which the only target is the second's probability"`
	Detector  *artifact.Detector `json:"detector,omitempty" doc:"Of an anomaly detector: how a device judges residuals, by features' indexes, and its threshold"`
	// Prepare is nil for a model that scales rows and does nothing else with them.
	Prepare *artifact.Preparation `json:"prepare,omitempty" doc:"What a device does with rows beside scaling them"`
	// Pipeline is nil for a model that is not fed by itself.
	Pipeline *artifact.Pipeline `json:"pipeline,omitempty" doc:"How a device feeds the model by itself"`
}

// A Column is one feature or target.
type Column struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
}

// A Verification says what of a stored version was checked and held.
type Verification struct {
	Ref    string          `json:"ref"`
	Digest protocol.Digest `json:"digest" doc:"Computed from the stored model"`
	Golden int             `json:"golden" doc:"Golden vectors that reproduced"`
}

// NewDevice asks for a device to be added.
type NewDevice struct {
	ID     string            `json:"id" doc:"1 to 48 characters of a-z, 0-9, _ and -"`
	Labels map[string]string `json:"labels,omitempty" doc:"What rollouts select by" maxProperties:"32"`
}

// A DeviceAdded holds all that an agent needs. The token is shown this once.
type DeviceAdded struct {
	Device   fleet.Device `json:"device"`
	Fleet    string       `json:"fleet"`
	Broker   string       `json:"broker"`
	Username string       `json:"username"`
	Token    string       `json:"token" doc:"The device's password at the broker, stored hashed: shown this once"`
	Root     []byte       `json:"root" doc:"Signed root document, base64"`
}

// NewUser asks for a user of predictions to be added.
type NewUser struct {
	ID string `json:"id" doc:"1 to 48 characters of a-z, 0-9, _ and -"`
}

// A UserAdded holds a new user's credential. The token is shown this once.
type UserAdded struct {
	ID       string `json:"id"`
	Username string `json:"username" doc:"User name and client id at the broker"`
	Token    string `json:"token" doc:"Password at the broker, stored hashed: shown this once"`
	Broker   string `json:"broker"`
	Fleet    string `json:"fleet"`
}

// NewRollout asks for a version to be the desired state of devices.
type NewRollout struct {
	Ref string `json:"ref" doc:"The version: NAME, NAME:vN or NAME:ALIAS" minLength:"1" maxLength:"160"`
	To  string `json:"to" doc:"all, LABEL=VALUE, or device ids with commas between" minLength:"1" maxLength:"65536"`

	Plan   plan.Plan `json:"plan,omitzero" doc:"How it spreads; without name and stages: shadow-first where at least 30 devices can be judged, all at once where not"`
	DryRun bool      `json:"dry_run,omitempty" doc:"Whether only what it would do is worked out"`
}

// A RolloutStarted says what a start did, or with dry_run would do.
type RolloutStarted struct {
	rollout.Started
	Draft *rollout.Draft `json:"draft,omitempty" doc:"The plan worked out: of a dry run, and of a rollout with stages"`
}

// NewRollback asks for devices to go back to the version before.
type NewRollback struct {
	Model string `json:"model" minLength:"1" maxLength:"48"`
	To    string `json:"to,omitempty" doc:"all (the default), LABEL=VALUE, or device ids with commas between" maxLength:"65536"`
}

// A Progress is one line of a training run's stream.
type Progress struct {
	Stage        string   `json:"stage" doc:"What the run is doing: queued, read, resume, baselines, epoch or evaluate"`
	Run          string   `json:"run,omitempty" doc:"Id of the run, once the data is read"`
	Windows      int      `json:"windows,omitempty" doc:"Training windows"`
	Epoch        int      `json:"epoch,omitempty" doc:"Epoch that ended, from 1"`
	Epochs       int      `json:"epochs,omitempty" doc:"Epochs there will be, unless it stops before"`
	Loss         float64  `json:"loss,omitempty" doc:"Loss on scaled targets"`
	ValLoss      *float64 `json:"val_loss,omitempty" doc:"The same on validation windows"`
	LearningRate float64  `json:"learning_rate,omitempty" doc:"Of the epoch's last update"`

	SamplesPerSecond float64 `json:"samples_per_second,omitempty" doc:"Training windows of the epoch by the seconds it took, validation included"`
	ETA              float64 `json:"eta_seconds,omitempty" doc:"Seconds until all epochs are trained, if they take as long as this one"`

	Seconds  float64  `json:"seconds" doc:"Time since the run began, or went on"`
	Warnings []string `json:"warnings,omitempty" doc:"What is odd about the data"`
}

// TrainOptions configures a training run. A zero takes the default of the
// task, which the report repeats.
type TrainOptions struct {
	Model    string   `json:"model" doc:"Name of the model; the run adds its next version"`
	Task     string   `json:"task" doc:"forecast, rul, classify or anomaly"`
	Time     string   `json:"time,omitempty" doc:"Column that orders the rows of a group; several with commas between are a date and a time of day, or year, month, day and so on"`
	Group    string   `json:"group,omitempty" doc:"Column whose values windows never cross; none: where there are several files, each is a group"`
	Targets  []string `json:"targets,omitempty" doc:"Columns to predict; of rul none, it counts down to the group's end, or the one that holds it; of anomaly the features to watch, none for all"`
	Features []string `json:"features,omitempty" doc:"Columns to read; none: every numeric one"`
	Weight   string   `json:"weight,omitempty" doc:"Column that says how much a window counts in training, by its last row; 0 or more"`

	Data         dataset.Options `json:"data,omitzero" doc:"How the files are read and cleaned"`
	Outliers     float64         `json:"outliers,omitempty" doc:"Training values further from the median than so many robust standard deviations are taken for missing ones; other rows stay as they are"`
	DropConstant bool            `json:"drop_constant,omitempty" doc:"Leave out features that are constant in the training rows"`

	Window  int     `json:"window,omitempty" doc:"Rows of a window"`
	Horizon int     `json:"horizon,omitempty" doc:"Rows ahead, of forecast"`
	Stride  int     `json:"stride,omitempty" doc:"Rows from one training window to the next"`
	State   string  `json:"state,omitempty" doc:"window: each prediction from the zero state; stream: the state is carried from row to row, and the window warms it up"`
	Pad     bool    `json:"pad,omitempty" doc:"Of rul: whether groups shorter than the window repeat their first row; then windows at the beginning of every group are learned too"`
	Anchor  string  `json:"anchor,omitempty" doc:"last: predict the change from the window's last row"`
	Skip    bool    `json:"skip,omitempty" doc:"Of forecast: add a linear map from each target's own column of the window to its outputs; the network learns what it leaves"`
	RULCap  float64 `json:"rul_cap,omitempty" doc:"Largest remaining life that is learned"`
	Season  int     `json:"season,omitempty" doc:"Rows of one season, for the baseline that repeats it"`
	Split   string  `json:"split,omitempty" doc:"Training, validation and test part of what no file of its own holds out: counts, of which one may be rest, or fractions, with commas between"`
	SplitBy string  `json:"split_by,omitempty" doc:"time: the rows of each group; group: whole groups, chosen by the seed. None: the task's way, and with a split by time"`
	Gap     *int    `json:"gap,omitempty" doc:"Rows before validation and before test that a split by time leaves to nobody; none: as many as the task needs"`

	Validation float64 `json:"validation,omitempty" doc:"Instead of a split: fraction of whole groups held out; -1 for none"`

	Units        []int   `json:"units,omitempty" doc:"Units of each recurrent layer"`
	Epochs       int     `json:"epochs,omitempty"`
	Batch        int     `json:"batch,omitempty"`
	LearningRate float64 `json:"learning_rate,omitempty"`
	Patience     int     `json:"patience,omitempty" doc:"Epochs without a lower monitored loss before it stops; 0: never"`
	Seed         uint64  `json:"seed,omitempty"`
	train.Settings
	train.Preparation
	train.TaskSettings

	Use train.Use `json:"use,omitzero" doc:"For the card of the version"`

	DataSet *setRef `json:"data_set,omitempty" hidden:"true"` // what the run reads of a data set, for when it goes on; set by the server

	From     string `json:"from,omitempty" doc:"The version to go on from: NAME, NAME:vN or NAME:ALIAS; what it says of columns, window and layers is the default"`
	HeadOnly bool   `json:"head_only,omitempty" doc:"With from: whether the last layer alone learns, so that devices fetch no more than that"`
	Unfed    bool   `json:"unfed,omitempty" doc:"With from: whether the version is without the pipeline of the one before"`

	Int8Bound *float64 `json:"int8_bound,omitempty" doc:"How much worse than float32's the int8 figure may be, as a fraction of it; none: the bound of the task"`
	Force     bool     `json:"force,omitempty" doc:"Whether the version is added even if int8 is worse than that; its lineage then says who did"`
}

// EvalOptions configures an evaluation. What is zero is as it was in training.
type EvalOptions struct {
	Predictions bool            `json:"predictions,omitempty" doc:"Whether the report lists every prediction"`
	Time        string          `json:"time,omitempty" doc:"Column that orders the rows of a group"`
	Group       string          `json:"group,omitempty" doc:"Column whose values windows never cross"`
	Data        dataset.Options `json:"data,omitzero" doc:"How the files are read and cleaned"`
	RULCap      float64         `json:"rul_cap,omitempty" doc:"Largest remaining life"`
	Season      int             `json:"season,omitempty" doc:"Rows of one season, for the baseline that repeats it"`
	Split       string          `json:"split,omitempty" doc:"Evaluate the test part of this split, or the validation part if it has none"`
	SplitBy     string          `json:"split_by,omitempty" doc:"Of that split: time or group; none: time"`
}
