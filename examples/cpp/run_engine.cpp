// Runs a TensorRT engine on one raw picture: bytes of RGB, row by row, in and out, as a camera buffer has them; bytes of
// luma or RGBA for a network with one or four channels.
//
//     run_engine model.plan input.rgb output.rgb [RUNS]
//
// The engine is one that trtexec or `sr-edge compile` built on this very device from a graph with uint8 frames
// (--io uint8): one input (1, height, width, channels), one output (1, scale * height, scale * width, channels).

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using Bytes = std::vector<char>;

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, char const* message) noexcept override {
        if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", message);
    }
};

void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

Bytes read_file(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

void write_file(std::string const& path, char const* data, std::size_t size) {
    std::ofstream file(path, std::ios::binary);
    if (!file.write(data, static_cast<std::streamsize>(size))) throw std::runtime_error("cannot write " + path);
}

// Memory on the device and its twin on the host, page-locked so that copies need no detour; both freed at the end.
struct Frame {
    std::string name;
    std::int64_t height, width, channels;
    std::size_t size;
    void* device = nullptr;
    void* host = nullptr;

    Frame(nvinfer1::ICudaEngine const& engine, char const* tensor) : name(tensor) {
        nvinfer1::Dims const dims = engine.getTensorShape(tensor);
        bool const sized = dims.nbDims == 4 && dims.d[0] == 1 && dims.d[1] > 0 && dims.d[2] > 0;
        bool const frames = sized && (dims.d[3] == 1 || dims.d[3] == 3 || dims.d[3] == 4);
        if (!frames || engine.getTensorDataType(tensor) != nvinfer1::DataType::kUINT8)
            throw std::runtime_error(name + " is not uint8 (1, height, width, 1, 3 or 4); build with --io uint8");
        height = dims.d[1], width = dims.d[2], channels = dims.d[3];
        size = static_cast<std::size_t>(height * width * channels);
        check(cudaMalloc(&device, size));
        check(cudaMallocHost(&host, size));
    }
    Frame(Frame const&) = delete;
    ~Frame() {
        cudaFree(device);
        cudaFreeHost(host);
    }
};

std::unique_ptr<Frame> frame_of(nvinfer1::ICudaEngine const& engine, nvinfer1::TensorIOMode mode) {
    std::unique_ptr<Frame> found;
    for (int i = 0; i < engine.getNbIOTensors(); ++i) {
        char const* const name = engine.getIOTensorName(i);
        if (engine.getTensorIOMode(name) != mode) continue;
        if (found) throw std::runtime_error("the engine has more than one picture; export with --bake for its controls");
        found = std::make_unique<Frame>(engine, name);
    }
    if (!found) throw std::runtime_error("the engine has no picture");
    return found;
}

void enqueue(nvinfer1::IExecutionContext& context, Frame const& in, Frame const& out, cudaStream_t stream) {
    check(cudaMemcpyAsync(in.device, in.host, in.size, cudaMemcpyHostToDevice, stream));
    if (!context.enqueueV3(stream)) throw std::runtime_error("the engine failed; its message is above");
    check(cudaMemcpyAsync(out.host, out.device, out.size, cudaMemcpyDeviceToHost, stream));
}

void run(std::string const& plan, std::string const& source, std::string const& target, int runs) {
    Logger logger;
    Bytes const blob = read_file(plan), picture = read_file(source);
    std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    if (!runtime) throw std::runtime_error("TensorRT does not start; its message is above");
    std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(blob.data(), blob.size()));
    if (!engine) throw std::runtime_error(plan + " is no engine for this device and TensorRT; build it here");
    std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
    if (!context) throw std::runtime_error("no memory for the engine's context; close other programs");

    auto const in = frame_of(*engine, nvinfer1::TensorIOMode::kINPUT);
    auto const out = frame_of(*engine, nvinfer1::TensorIOMode::kOUTPUT);
    if (picture.size() != in->size)
        throw std::runtime_error(source + " has " + std::to_string(picture.size()) + " bytes; the engine takes " +
                                 std::to_string(in->width) + "x" + std::to_string(in->height) + "x" +
                                 std::to_string(in->channels) + ", " + std::to_string(in->size) + " bytes");
    std::copy(picture.begin(), picture.end(), static_cast<char*>(in->host));
    context->setTensorAddress(in->name.c_str(), in->device);
    context->setTensorAddress(out->name.c_str(), out->device);

    cudaStream_t stream;
    check(cudaStreamCreate(&stream));
    std::vector<double> times_ms;
    for (int i = 0; i <= runs; ++i) {  // the first is to warm up
        auto const started = std::chrono::steady_clock::now();
        enqueue(*context, *in, *out, stream);
        check(cudaStreamSynchronize(stream));
        std::chrono::duration<double, std::milli> const took = std::chrono::steady_clock::now() - started;
        if (i > 0) times_ms.push_back(took.count());
    }
    check(cudaStreamDestroy(stream));
    write_file(target, static_cast<char const*>(out->host), out->size);
    std::sort(times_ms.begin(), times_ms.end());
    std::printf("%s: %lldx%lldx%lld, median of %d runs %.3f ms, copies included\n", target.c_str(),
                static_cast<long long>(out->width), static_cast<long long>(out->height),
                static_cast<long long>(out->channels), runs, times_ms[times_ms.size() / 2]);
}

int main(int count, char** arguments) {
    int const runs = count == 5 ? std::atoi(arguments[4]) : 20;
    if (count < 4 || count > 5 || runs < 1) {
        std::fprintf(stderr, "usage: run_engine model.plan input.rgb output.rgb [RUNS]\n");
        return 2;
    }
    try {
        run(arguments[1], arguments[2], arguments[3], runs);
    } catch (std::exception const& error) {
        std::fprintf(stderr, "run_engine: %s\n", error.what());
        return 1;
    }
    return 0;
}
