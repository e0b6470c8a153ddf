"""A Beam runner that tells what it was asked to do, named by its path as any runner outside of Beam is."""

from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PortableOptions, WorkerOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

asked: list[dict[str, Any]] = []


class Spy(FnApiRunner):
    def run_pipeline(self, pipeline, options):
        asked.append(
            {
                "region": options.view_as(GoogleCloudOptions).region,
                "endpoint": options.view_as(PortableOptions).job_endpoint,
                "workers": options.view_as(WorkerOptions).max_num_workers,
                "all": options.get_all_options(retain_unknown_options=True),
            }
        )
        return super().run_pipeline(pipeline, options)
