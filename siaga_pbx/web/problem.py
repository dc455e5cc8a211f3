"""Errors as the API gives them: JSON of RFC 9457, `detail` being one clear line for a person."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from siaga_pbx.web.centre import Refused


class Problem(BaseModel):
    """RFC 9457."""

    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what is wrong, in one line")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for an error."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def answer_with_problems(app: FastAPI, outage: type[Exception]) -> None:
    """Have every error of the app answered so. `outage` is what reading the records raises when it is not possible."""

    @app.exception_handler(outage)
    async def _outage(_: Request, error: Exception) -> JSONResponse:
        return problem(503, f"the records cannot be read now: {error}")

    @app.exception_handler(Refused)
    async def _refused(_: Request, error: Refused) -> JSONResponse:
        return problem(error.cause.value, str(error))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(_fault(detail) for detail in error.errors()))

    @app.exception_handler(Exception)
    async def _fault_of_ours(_: Request, __: Exception) -> JSONResponse:
        return problem(500, "an error of ours; the log has it")


def _fault(detail: Mapping[str, object]) -> str:
    """One validation error as `key: what is wrong`, without the value: it may be a caller's."""
    location = detail.get("loc")
    parts = location[1:] if isinstance(location, tuple) else ()
    message = str(detail.get("msg", "not valid"))
    if detail.get("type") == "json_invalid":
        return "the body is not JSON"
    return f"{'.'.join(str(part) for part in parts)}: {message}" if parts else message
