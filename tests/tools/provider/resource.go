package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// faultResource exists only in the state; creating it can be slow, fail, and leave a line.
type faultResource struct{}

type faultModel struct {
	ID          types.String `tfsdk:"id"`
	Name        types.String `tfsdk:"name"`
	SleepMS     types.Int64  `tfsdk:"sleep_ms"`
	Fail        types.Bool   `tfsdk:"fail"`
	CounterFile types.String `tfsdk:"counter_file"`
	Payload     types.String `tfsdk:"payload"`
	Stubborn    types.Bool   `tfsdk:"stubborn"`
}

func (faultResource) Metadata(_ context.Context, request resource.MetadataRequest, response *resource.MetadataResponse) {
	response.TypeName = request.ProviderTypeName + "_resource"
}

func (faultResource) Schema(_ context.Context, _ resource.SchemaRequest, response *resource.SchemaResponse) {
	response.Schema = schema.Schema{
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{
				Computed:      true,
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
			"name": schema.StringAttribute{
				Required:      true,
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"sleep_ms": schema.Int64Attribute{
				Optional: true, Computed: true, Default: int64default.StaticInt64(0),
				Description: "How long creating and updating take, in milliseconds.",
			},
			"fail": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				Description: "Whether creating and updating end with an error, after sleep_ms.",
			},
			"stubborn": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				Description: "Whether creating goes on for all of sleep_ms when it is asked to stop.",
			},
			"counter_file": schema.StringAttribute{
				Optional:    true,
				Description: "A file that gets one line, \"<name> created\", when really created.",
			},
			"payload": schema.StringAttribute{
				Optional: true, Description: "Any text; makes plan and state large.",
			},
		},
	}
}

// apply waits, fails or leaves its line, as asked.
func apply(ctx context.Context, model *faultModel, verb string) error {
	if model.Stubborn.ValueBool() {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(time.Duration(model.SleepMS.ValueInt64()) * time.Millisecond):
	case <-ctx.Done():
		return fmt.Errorf("%s was interrupted before it happened", model.Name.ValueString())
	}
	if model.Fail.ValueBool() {
		return fmt.Errorf("%s was asked to fail", model.Name.ValueString())
	}
	path := model.CounterFile.ValueString()
	if path == "" {
		return nil
	}
	// One write in append mode: lines of several processes never mix.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s %s\n", model.Name.ValueString(), verb)
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}

func (faultResource) Create(ctx context.Context, request resource.CreateRequest, response *resource.CreateResponse) {
	var model faultModel
	response.Diagnostics.Append(request.Plan.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	if err := apply(ctx, &model, "created"); err != nil {
		response.Diagnostics.AddError("The fault resource was not created", err.Error())
		return
	}
	model.ID = model.Name
	response.Diagnostics.Append(response.State.Set(ctx, &model)...)
}

func (faultResource) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

func (faultResource) Update(ctx context.Context, request resource.UpdateRequest, response *resource.UpdateResponse) {
	var model faultModel
	response.Diagnostics.Append(request.Plan.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	if err := apply(ctx, &model, "updated"); err != nil {
		response.Diagnostics.AddError("The fault resource was not updated", err.Error())
		return
	}
	response.Diagnostics.Append(response.State.Set(ctx, &model)...)
}

func (faultResource) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
